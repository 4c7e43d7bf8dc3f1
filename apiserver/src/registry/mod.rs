//! How objects lie in the store: which kind is served where, keys, records,
//! and cached reads of decoded objects. No HTTP.

mod catalog;
mod filter;
mod key;
mod meta;
mod objects;
mod record;

pub use catalog::{Catalog, built_in, subresource};
pub use filter::Filter;
pub use key::{key_of, prefix_of, split_key};
pub(crate) use meta::metadata_mut;
pub use meta::{
    check_preconditions, dedupe_owners, deletion_timestamp, finalizers, finished, generate_name, new_metadata,
    stamp_metadata, text_at, update_metadata,
};
pub use objects::{DecodeCache, StoreObjects};
pub use record::{decode, encode, list_item, list_item_length, metadata_spliced, spliced, type_prefix};
