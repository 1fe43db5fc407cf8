//! The type under a derive: what of it the expansions need, or why it is refused.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Generics, LitInt, LitStr, Member};
use syn::{Path, Result, Type};

/// Variants that a tag of one byte can tell apart.
const VARIANTS_MAX: usize = 256;

/// A type that can be a record.
pub(crate) struct Input {
    pub(crate) name: Ident,
    /// True if the type has its one lifetime.
    pub(crate) borrows: bool,
    pub(crate) body: Body,
    pub(crate) attribute: Attribute,
}

pub(crate) enum Body {
    Struct(Vec<Field>),
    Enum(Vec<(Ident, Vec<Field>)>),
}

pub(crate) struct Field {
    pub(crate) member: Member,
    /// The record type of the field, of which the field's own type is a view.
    pub(crate) family: TokenStream,
    span: Span,
}

impl Field {
    /// The bound that makes the field a record, and a `more` beside it.
    pub(crate) fn bound(&self, api: &TokenStream, more: Option<&TokenStream>) -> TokenStream {
        let Self { family, span, .. } = self;
        // All of the bound stands where the field is, so that an error does too.
        let (api, more) = (moved(api, *span), more.map(|more| moved(more, *span)));
        let plus = more.map(|more| quote_spanned!(*span=> + #more));
        quote_spanned!(*span=> #family: #api::Record #plus)
    }
}

/// The tokens as if they stood elsewhere.
fn moved(tokens: &TokenStream, place: Span) -> TokenStream {
    let moved = tokens.clone().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    moved.collect()
}

/// `#[record(...)]`
pub(crate) struct Attribute {
    /// The stable name with the version, if that is not 1.
    pub(crate) stable_name: String,
    /// The path of the core's `api` module.
    pub(crate) api: TokenStream,
}

impl Input {
    pub(crate) fn parse(input: &DeriveInput, derived: &str) -> Result<Self> {
        let lifetime = lifetime(&input.generics, derived)?;
        let fields = |fields: &Fields| {
            let members = fields.members().zip(fields);
            members
                .map(|(member, field)| parse_field(member, &field.ty, &lifetime))
                .collect::<Result<Vec<_>>>()
        };
        let body = match &input.data {
            Data::Struct(data) => Body::Struct(fields(&data.fields)?),
            Data::Enum(data) if data.variants.is_empty() => {
                return Err(Error::new_spanned(
                    &input.ident,
                    "an enum without variants has no value",
                ));
            }
            Data::Enum(data) if data.variants.len() > VARIANTS_MAX => {
                let message = format!(
                    "`{}` has {} variants, and a tag of one byte tells {VARIANTS_MAX} apart: \
                     nest some of them in an enum of their own",
                    input.ident,
                    data.variants.len()
                );
                return Err(Error::new_spanned(&input.ident, message));
            }
            Data::Enum(data) => {
                let variants = data.variants.iter();
                let variants = variants.map(|it| Ok((it.ident.clone(), fields(&it.fields)?)));
                Body::Enum(variants.collect::<Result<_>>()?)
            }
            Data::Union(_) => {
                let message = format!("`{derived}` cannot be derived for a union: make it an enum");
                return Err(Error::new_spanned(&input.ident, message));
            }
        };
        Ok(Self {
            name: input.ident.clone(),
            borrows: lifetime.is_some(),
            body,
            attribute: Attribute::parse(input)?,
        })
    }

    /// The type that the traits are implemented for.
    pub(crate) fn family(&self) -> TokenStream {
        self.with_lifetime(&quote!('static))
    }

    /// The type with a lifetime, if it has one.
    pub(crate) fn with_lifetime(&self, lifetime: &TokenStream) -> TokenStream {
        let name = &self.name;
        if self.borrows { quote!(#name<#lifetime>) } else { quote!(#name) }
    }

    /// The fields, those of every variant if it is an enum.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        match &self.body {
            Body::Struct(fields) => vec![fields],
            Body::Enum(variants) => variants.iter().map(|(_, fields)| fields).collect(),
        }
        .into_iter()
        .flatten()
    }
}

impl Attribute {
    fn parse(input: &DeriveInput) -> Result<Self> {
        let (mut name, mut version, mut path) = (None, 1_u32, None);
        for attribute in input.attrs.iter().filter(|it| it.path().is_ident("record")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    let value: LitStr = meta.value()?.parse()?;
                    if value.value().is_empty() || value.value().contains('@') {
                        return Err(Error::new_spanned(
                            value,
                            "a name is not empty and has no `@`",
                        ));
                    }
                    name = Some(value.value());
                } else if meta.path.is_ident("version") {
                    let value: LitInt = meta.value()?.parse()?;
                    version = value.base10_parse()?;
                    if version == 0 {
                        return Err(Error::new_spanned(value, "versions begin with 1"));
                    }
                } else if meta.path.is_ident("crate") {
                    path = Some(meta.value()?.parse::<LitStr>()?.parse::<Path>()?);
                } else {
                    let message = "unknown: there are `name`, `version` and `crate`";
                    return Err(meta.error(message));
                }
                Ok(())
            })?;
        }
        let mut stable_name = name.unwrap_or_else(|| input.ident.unraw().to_string());
        if version > 1 {
            stable_name.push_str(&format!("@v{version}"));
        }
        let core = path.map_or_else(core_path, ToTokens::into_token_stream);
        Ok(Self { stable_name, api: quote!(#core::api) })
    }
}

/// The path of the core in the crate that is being compiled.
fn core_path() -> TokenStream {
    let direct = match crate_name("gear-core") {
        Ok(FoundCrate::Name(name)) => Some(format_ident!("{name}")),
        Ok(FoundCrate::Itself) | Err(_) => None,
    };
    let through_node = match crate_name("gear-node") {
        Ok(FoundCrate::Name(name)) => Some(format_ident!("{name}")),
        Ok(FoundCrate::Itself) => Some(format_ident!("gear_node")),
        Err(_) => None,
    };
    match (direct, through_node) {
        (None, Some(node)) => quote!(::#node::core),
        (Some(core), _) => quote!(::#core),
        (None, None) => quote!(::gear_core),
    }
}

/// The one lifetime, if there is one, as it stands in types.
fn lifetime(generics: &Generics, derived: &str) -> Result<Option<Ident>> {
    let mut lifetimes = Vec::new();
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(it) => lifetimes.push(it.lifetime.clone()),
            GenericParam::Type(_) | GenericParam::Const(_) => {
                let message = format!(
                    "`{derived}` cannot be derived for a generic type, since its stable name would \
                     not tell its instances apart: write a type for each"
                );
                return Err(Error::new_spanned(parameter, message));
            }
        }
    }
    if let Some(second) = lifetimes.get(1) {
        let message = "a view borrows from one batch: one lifetime is enough";
        return Err(Error::new_spanned(second, message));
    }
    if let Some(clause) = &generics.where_clause {
        return Err(Error::new_spanned(clause, "a record has no `where` clause"));
    }
    Ok(lifetimes.pop().map(|it| it.ident))
}

fn parse_field(member: Member, ty: &Type, lifetime: &Option<Ident>) -> Result<Field> {
    let family = match lifetime {
        Some(lifetime) => family(ty, lifetime)?,
        None => ty.to_token_stream(),
    };
    Ok(Field { member, family, span: ty.span() })
}

/// The record type whose view is `ty`.
fn family(ty: &Type, lifetime: &Ident) -> Result<TokenStream> {
    match ty {
        _ if !mentions(ty.to_token_stream(), lifetime) => return Ok(ty.to_token_stream()),
        Type::Reference(it) if it.mutability.is_none() => {
            // Where `Ref` is depends on the caller: the expansion imports it under this name.
            let target = &it.elem;
            let text = target.to_token_stream().to_string().replace(' ', "");
            if text == "str" || text == "[u8]" {
                return Ok(quote!(__Ref<#target>));
            }
        }
        Type::Tuple(it) => {
            let parts: Vec<_> =
                it.elems.iter().map(|it| family(it, lifetime)).collect::<Result<_>>()?;
            return Ok(quote!((#(#parts,)*)));
        }
        Type::Paren(it) => return family(&it.elem, lifetime),
        Type::Group(it) => return family(&it.elem, lifetime),
        Type::Path(it) => {
            let nested = it.path.segments.iter().any(|segment| match &segment.arguments {
                syn::PathArguments::AngleBracketed(arguments) => arguments.args.iter().any(|it| {
                    !matches!(it, syn::GenericArgument::Lifetime(_))
                        && mentions(it.to_token_stream(), lifetime)
                }),
                _ => false,
            });
            if !nested {
                return Ok(with_static(ty.to_token_stream(), lifetime));
            }
        }
        _ => {}
    }
    let message = format!(
        "a view borrows as `&'{lifetime} str`, `&'{lifetime} [u8]`, a record with the lifetime, or \
         a tuple of these: use an owned type here, as `String` or `Vec<u8>`"
    );
    Err(Error::new_spanned(ty, message))
}

/// True if the tokens name the lifetime.
fn mentions(tokens: TokenStream, lifetime: &Ident) -> bool {
    let mut after_quote = false;
    tokens.into_iter().any(|token| {
        let found = match &token {
            TokenTree::Ident(ident) => after_quote && ident == lifetime,
            TokenTree::Group(group) => mentions(group.stream(), lifetime),
            _ => false,
        };
        after_quote = matches!(&token, TokenTree::Punct(it) if it.as_char() == '\'');
        found
    })
}

/// The tokens with `'static` for the lifetime.
fn with_static(tokens: TokenStream, lifetime: &Ident) -> TokenStream {
    let mut after_quote = false;
    tokens
        .into_iter()
        .map(|token| {
            let is_quote = matches!(&token, TokenTree::Punct(it) if it.as_char() == '\'');
            let token = match token {
                TokenTree::Ident(ident) if after_quote && ident == *lifetime => {
                    TokenTree::Ident(Ident::new("static", ident.span()))
                }
                TokenTree::Group(group) => TokenTree::Group(Group::new(
                    group.delimiter(),
                    with_static(group.stream(), lifetime),
                )),
                token => token,
            };
            after_quote = is_quote;
            token
        })
        .collect()
}
