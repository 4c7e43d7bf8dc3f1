//! Parts that many objects have in common, kept once: the pods of a template differ
//! in their names, not in their containers, and nearly all pods tolerate the same.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Values that were seen last; a value equal to none of these is kept once more, no
/// harm done. Some workloads' worth: a look compares the value's hash with each.
const RECENT_MAX: usize = 256;

/// The last values that were read, with their hashes.
pub struct Recent<T>(Mutex<Vec<(u64, Arc<T>)>>);

impl<T: Alike> Recent<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn share(&self, value: T) -> Arc<T> {
        let mut hasher = DefaultHasher::new();
        value.hash_into(&mut hasher);
        let hash = hasher.finish();
        // The list is whole after every statement, so a panic elsewhere spoils nothing.
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.iter().position(|(of, known)| *of == hash && **known == value) {
            Some(at) => recent[..=at].rotate_right(1),
            None => {
                recent.truncate(RECENT_MAX - 1);
                recent.insert(0, (hash, Arc::new(value)));
            }
        }
        recent[0].1.clone()
    }
}

/// What can be shared, and where its last values are.
pub trait Alike: PartialEq + Sized + 'static {
    /// Equal values have equal hashes.
    fn hash_into(&self, hasher: &mut DefaultHasher);
    fn recent() -> &'static Recent<Self>;
}

/// A value that may be another object's too; sharing happens where it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared<T>(Arc<T>);

impl<T: Alike> Shared<T> {
    /// The value, or one equal to it that was read lately.
    pub fn alike(value: T) -> Self {
        Self(T::recent().share(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Alike + Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hash;

    impl Alike for u32 {
        fn hash_into(&self, hasher: &mut DefaultHasher) {
            // Half of the values meet another one with the same hash.
            (self / 2).hash(hasher);
        }

        fn recent() -> &'static Recent<Self> {
            static RECENT: Recent<u32> = Recent::new();
            &RECENT
        }
    }

    #[test]
    fn equal_values_are_one_and_the_list_stays_short() {
        let recent = Recent::<u32>::new();
        let first = recent.share(0);
        for other in 1..1000 {
            recent.share(other);
            // Asked for again and again, the first is never forgotten.
            assert!(Arc::ptr_eq(&first, &recent.share(0)));
        }
        assert_eq!(recent.0.lock().unwrap().len(), RECENT_MAX);
        assert_eq!(*recent.share(1), 1);
        assert_eq!(Arc::strong_count(&first), 2);
    }
}
