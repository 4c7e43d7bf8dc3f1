//! Texts that live as long as the process: names of kinds that come at run time
//! stand beside those of the built-in table, as the same type. Each distinct text
//! or list is kept once and for good, so that a definition which is changed a
//! thousand times costs its names once. Only who may define kinds adds any.

use crate::contract::Subresource;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The lasting copy of a text.
pub fn intern(text: &str) -> &'static str {
    static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut known = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.into());
    known.insert(kept);
    kept
}

/// The lasting copy of a list of texts.
pub fn intern_texts<T: AsRef<str>>(texts: &[T]) -> &'static [&'static str] {
    static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
    keep(&LISTS, texts.iter().map(|text| intern(text.as_ref())).collect())
}

/// The lasting copy of a list of subresources.
pub fn intern_subresources(list: &[Subresource]) -> &'static [Subresource] {
    static LISTS: LazyLock<Mutex<HashSet<&'static [Subresource]>>> = LazyLock::new(Mutex::default);
    keep(&LISTS, list.to_vec())
}

fn keep<T: Eq + Hash>(known: &Mutex<HashSet<&'static [T]>>, list: Vec<T>) -> &'static [T] {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(list.as_slice()) {
        return found;
    }
    let kept: &'static [T] = list.leak();
    known.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_and_lists_are_kept_once() {
        let a = intern(&String::from("crontabs"));
        assert!(std::ptr::eq(a, intern(&["cron", "tabs"].concat())));
        let list = intern_texts(&["v1".to_string(), "v2".to_string()]);
        assert_eq!(list, ["v1", "v2"]);
        assert!(std::ptr::eq(list, intern_texts(&["v1", "v2"])));
    }
}
