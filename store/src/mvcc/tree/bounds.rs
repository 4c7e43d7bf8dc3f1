//! The keys between the children of an inner node, one behind the other in one piece of
//! memory: a search touches little else. They change only when children come or go. Pure.

/// In order; each is larger than the keys on its left and not larger than those on its right.
#[derive(Clone, Default)]
pub struct Bounds {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

impl Bounds {
    pub fn of<'a>(bounds: impl Iterator<Item = &'a [u8]>) -> Bounds {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for bound in bounds {
            bytes.extend_from_slice(bound);
            ends.push(u32::try_from(bytes.len()).expect("a few keys of a few MiB at most"));
        }
        Bounds {
            bytes: bytes.into(),
            ends: ends.into(),
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[from as usize..self.ends[at] as usize]
    }

    pub fn range(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        range.map(|at| self.get(at))
    }

    /// Which child has `key`.
    pub fn place(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle) <= key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    pub fn inserted(&self, at: usize, bound: &[u8]) -> Bounds {
        Bounds::of(self.range(0..at).chain([bound]).chain(self.range(at..self.len())))
    }

    pub fn removed(&self, at: usize) -> Bounds {
        Bounds::of(self.range(0..at).chain(self.range(at + 1..self.len())))
    }

    pub fn replaced(&self, at: usize, bound: &[u8]) -> Bounds {
        Bounds::of(self.range(0..at).chain([bound]).chain(self.range(at + 1..self.len())))
    }
}

/// The shortest key that is larger than `left` and not larger than `right`.
pub fn between(left: &[u8], right: &[u8]) -> Box<[u8]> {
    let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    Box::from(&right[..(same + 1).min(right.len())])
}
