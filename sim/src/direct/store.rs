//! A checkpoint store: what it holds is durable; what it says may come late, twice, or wrong.

use std::collections::BTreeMap;

use gear_core::effect::{StoreReply, StoreRequest};

/// Objects by name.
#[derive(Clone, Debug, Default)]
pub struct Store {
    objects: BTreeMap<String, Vec<u8>>,
}

impl Store {
    /// Does what is asked for, at once.
    pub fn perform(&mut self, request: &StoreRequest) -> StoreReply {
        match request {
            StoreRequest::Put { name, bytes } => {
                self.objects.insert(name.clone(), bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Create { name, bytes } => {
                if self.objects.contains_key(name) {
                    return StoreReply::Exists;
                }
                self.objects.insert(name.clone(), bytes.to_vec());
                StoreReply::Done
            }
            StoreRequest::Get { name } => match self.objects.get(name) {
                Some(bytes) => StoreReply::Bytes(bytes.clone()),
                None => StoreReply::Missing,
            },
            StoreRequest::List { prefix } => {
                let names = self.objects.keys().filter(|name| name.starts_with(prefix.as_str()));
                StoreReply::Names(names.cloned().collect())
            }
            StoreRequest::Delete { name } => {
                self.objects.remove(name);
                StoreReply::Done
            }
        }
    }

    /// The content of an object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.objects.get(name).map(Vec::as_slice)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_once() {
        let mut store = Store::default();
        let create = |byte| StoreRequest::Create { name: "log/1".into(), bytes: vec![byte].into() };
        assert_eq!(store.perform(&create(1)), StoreReply::Done);
        assert_eq!(store.perform(&create(2)), StoreReply::Exists);
        assert_eq!(store.get("log/1"), Some([1].as_slice()));
        let list = StoreRequest::List { prefix: "log/".into() };
        assert_eq!(store.perform(&list), StoreReply::Names(vec!["log/1".into()]));
        let name = "log/1".to_owned();
        assert_eq!(store.perform(&StoreRequest::Delete { name: name.clone() }), StoreReply::Done);
        assert_eq!(store.perform(&StoreRequest::Get { name }), StoreReply::Missing);
        assert!(store.is_empty());
    }
}
