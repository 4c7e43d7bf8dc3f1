//! Names with their values in one allocation. An object has a dozen of them beside
//! it; each text in an allocation of its own would cost more than the object's own
//! small parts. Pure.

use std::fmt;

/// Pairs of texts in the order they were given. Each text is its length (a LEB128
/// varint) and its bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Box<[u8]>);

impl Pairs {
    pub fn view(&self) -> PairsView<'_> {
        PairsView(&self.0)
    }

    pub(crate) fn from_view(view: PairsView<'_>) -> Pairs {
        Pairs(Box::from(view.0))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.view().iter()
    }

    /// The value of the first pair with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.view().get(name)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All texts one after the other, each behind its length.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Pairs that lie somewhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PairsView<'a>(&'a [u8]);

impl<'a> PairsView<'a> {
    /// Of the bytes of some `Pairs`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        PairsView(bytes)
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut texts = self.texts();
        std::iter::from_fn(move || Some((text(texts.next()?), text(texts.next()?))))
    }

    /// The value of the first pair with this name.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut texts = self.texts();
        while let (Some(found), Some(value)) = (texts.next(), texts.next()) {
            if found == name.as_bytes() {
                return Some(text(value));
            }
        }
        None
    }

    /// Number of pairs.
    pub fn len(self) -> usize {
        self.texts().count() / 2
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// All texts one after the other, each behind its length.
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    fn texts(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let (byte, behind) = rest.split_first()?;
                rest = behind;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let found;
            (found, rest) = rest.split_at(length);
            Some(found)
        })
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("pairs are made of texts only")
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut out = Vec::with_capacity(512);
        for (name, value) in pairs {
            crate::codec::put_bytes(&mut out, name.as_ref().as_bytes());
            crate::codec::put_bytes(&mut out, value.as_ref().as_bytes());
        }
        // A copy of the exact size: to shrink in place keeps up to half for nothing.
        Self(Box::from(&out[..]))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for PairsView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_was_made_of() {
        let long = "ä".repeat(20_000);
        for pairs in [
            vec![],
            vec![("a", "")],
            vec![("", "x"), ("b", &long), (&long, "c"), ("b", "second")],
        ] {
            let packed: Pairs = pairs.iter().copied().collect();
            assert_eq!(packed.iter().collect::<Vec<_>>(), pairs);
            assert_eq!((packed.len(), packed.is_empty()), (pairs.len(), pairs.is_empty()));
            for (name, _) in &pairs {
                let first = pairs.iter().find(|(other, _)| other == name);
                assert_eq!(packed.get(name), first.map(|(_, value)| *value));
            }
            assert_eq!(packed.get("absent"), None);
        }
    }

    #[test]
    fn costs_two_bytes_a_pair() {
        let packed: Pairs = [("app", "web"), ("tier", "front")].into_iter().collect();
        assert_eq!(packed.as_bytes().len(), 2 * 2 + "appwebtierfront".len());
    }
}
