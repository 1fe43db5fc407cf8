//! The expansion of `#[derive(Record)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::input::{Body, Field, Input};

pub(crate) fn expand(input: &Input) -> TokenStream {
    let (api, stable_name) = (&input.attribute.api, &input.attribute.stable_name);
    let (family, view) = (input.family(), input.with_lifetime(&quote!('view)));
    let bounds = input.fields().map(|field| field.bound(api, None));
    let (encode, decode) = match &input.body {
        Body::Struct(fields) => bodies_of_struct(input, fields),
        Body::Enum(variants) => bodies_of_enum(input, variants),
    };
    let elided = input.with_lifetime(&quote!('_));
    quote! {
        const _: () = {
            #[allow(unused_imports)]
            use #api::Ref as __Ref;

            #[automatically_derived]
            impl #api::Record for #family
            where
                #(#bounds,)*
            {
                type View<'view> = #view;

                #[inline]
                fn encode(view: &#elided, out: &mut #api::derived::Vec<u8>) {
                    #encode
                }

                #[inline]
                fn decode<'view>(
                    input: &mut &'view [u8],
                ) -> ::core::result::Result<#view, #api::Malformed> {
                    #decode
                }

                fn type_name(out: &mut #api::derived::String) {
                    out.push_str(#stable_name);
                }
            }
        };
    }
}

fn bodies_of_struct(input: &Input, fields: &[Field]) -> (TokenStream, TokenStream) {
    let (api, name) = (&input.attribute.api, &input.name);
    let members: Vec<_> = fields.iter().map(|field| &field.member).collect();
    let families: Vec<_> = fields.iter().map(|field| &field.family).collect();
    // A record has at least one byte, or its end could not be told from the end of its batch.
    let (no_fields_out, no_fields_in) = if fields.is_empty() {
        (
            quote!(let _ = view; <() as #api::Record>::encode(&(), out);),
            quote!(<() as #api::Record>::decode(input)?;),
        )
    } else {
        (quote!(), quote!())
    };
    let encode = quote! {
        #no_fields_out
        #(<#families as #api::Record>::encode(&view.#members, out);)*
    };
    let decode = quote! {
        #no_fields_in
        ::core::result::Result::Ok(#name {
            #(#members: <#families as #api::Record>::decode(input)?,)*
        })
    };
    (encode, decode)
}

fn bodies_of_enum(
    input: &Input,
    variants: &[(syn::Ident, Vec<Field>)],
) -> (TokenStream, TokenStream) {
    let (api, name) = (&input.attribute.api, &input.name);
    let stable_name = &input.attribute.stable_name;
    let arms = variants.iter().enumerate().map(|(tag, (variant, fields))| {
        let tag = u8::try_from(tag).expect("an enum with more variants was refused");
        let members: Vec<_> = fields.iter().map(|field| &field.member).collect();
        let families: Vec<_> = fields.iter().map(|field| &field.family).collect();
        let names: Vec<_> = (0..fields.len()).map(|index| format_ident!("field_{index}")).collect();
        let encode = quote! {
            #name::#variant { #(#members: #names,)* } => {
                out.push(#tag);
                #(<#families as #api::Record>::encode(#names, out);)*
            }
        };
        let decode = quote! {
            #tag => #name::#variant {
                #(#members: <#families as #api::Record>::decode(input)?,)*
            }
        };
        (encode, decode)
    });
    let (encode, decode): (Vec<_>, Vec<_>) = arms.unzip();
    let encode = quote!(match view { #(#encode)* });
    let otherwise = (variants.len() <= usize::from(u8::MAX)).then(|| {
        quote! {
            _ => return ::core::result::Result::Err(#api::Malformed::new(#stable_name)),
        }
    });
    let decode = quote! {
        ::core::result::Result::Ok(match <u8 as #api::Record>::decode(input)? {
            #(#decode,)*
            #otherwise
        })
    };
    (encode, decode)
}
