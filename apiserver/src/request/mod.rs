//! What a request asks for, read from its method, path, query and Accept
//! header. Pure: nothing here looks at the table of kinds or at the store.

mod fault;
mod info;
mod listing;
mod negotiate;
mod options;

pub use fault::OptionKind;
pub use info::{RequestInfo, bad_segment, parse_info};
pub use listing::{Continue, parse_revision};
pub use negotiate::{Encoding, Form, Negotiated, negotiate};
pub(crate) use options::dry_run;
pub use options::{FieldValidation, Propagation, QueryOptions, RvMatch};
