//! The expansion of `#[derive(Key)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Index, Result};

use crate::input::{Body, Input};

/// Elements of the longest tuple for which the standard library implements `Copy` and `Debug`.
const TUPLE_MAX: usize = 12;

pub(crate) fn expand(input: &Input) -> Result<TokenStream> {
    let (api, name) = (&input.attribute.api, &input.name);
    let Body::Struct(fields) = &input.body else {
        let message =
            "`Key` can be derived for a struct: key by a number that stands for the variant";
        return Err(Error::new_spanned(name, message));
    };
    if fields.len() > TUPLE_MAX * TUPLE_MAX {
        return Err(Error::new_spanned(name, "a key of so many fields: nest some in a struct"));
    }
    let (family, view) = (input.family(), input.with_lifetime(&quote!('view)));
    let elided = input.with_lifetime(&quote!('_));
    let key = quote!(#api::Key);
    let bounds = fields.iter().map(|field| field.bound(api, Some(&key)));
    let members: Vec<_> = fields.iter().map(|field| &field.member).collect();
    let families: Vec<_> = fields.iter().map(|field| &field.family).collect();
    let (stored, places) =
        in_tuples(&families.iter().map(|it| quote!(<#it as #key>::Stored)).collect::<Vec<_>>());
    let (stores, _) = in_tuples(
        &families
            .iter()
            .zip(&members)
            .map(|(family, member)| quote!(<#family as #key>::store(&view.#member, arena)))
            .collect::<Vec<_>>(),
    );
    Ok(quote! {
        const _: () = {
            #[allow(unused_imports)]
            use #api::Ref as __Ref;

            #[automatically_derived]
            #[allow(unused_variables, clippy::unused_unit)]
            impl #key for #family
            where
                #(#bounds,)*
            {
                type Stored = #stored;

                #[inline]
                fn hash(view: &#elided, seed: u64) -> u64 {
                    #(let seed = <#families as #key>::hash(&view.#members, seed);)*
                    seed
                }

                #[inline]
                fn store(view: &#elided, arena: &mut #api::key::KeyArena) -> Self::Stored {
                    #stores
                }

                #[inline]
                fn load<'view>(
                    stored: &'view Self::Stored,
                    arena: &'view #api::key::KeyArena,
                ) -> #view {
                    #name { #(#members: <#families as #key>::load(&stored #places, arena),)* }
                }

                #[inline]
                fn matches(
                    stored: &Self::Stored,
                    view: &#elided,
                    arena: &#api::key::KeyArena,
                ) -> bool {
                    true #(&& <#families as #key>::matches(&stored #places, &view.#members, arena))*
                }
            }
        };
    })
}

/// The elements as a tuple, a tuple of tuples if they are too many for one, and where each is.
fn in_tuples(elements: &[TokenStream]) -> (TokenStream, Vec<TokenStream>) {
    if elements.len() <= TUPLE_MAX {
        let places = (0..elements.len()).map(|index| {
            let index = Index::from(index);
            quote!(.#index)
        });
        return (quote!((#(#elements,)*)), places.collect());
    }
    let groups = elements.chunks(TUPLE_MAX).map(|group| quote!((#(#group,)*)));
    let places = (0..elements.len()).map(|index| {
        let (group, place) = (Index::from(index / TUPLE_MAX), Index::from(index % TUPLE_MAX));
        quote!(.#group.#place)
    });
    (quote!((#(#groups,)*)), places.collect())
}
