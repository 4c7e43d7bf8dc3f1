//! What a request asks for, read from its method, path, query and Accept
//! header. Pure: nothing here looks at the table of kinds or at the store.

mod info;
mod negotiate;
mod options;

pub use info::{RequestInfo, parse_info};
pub use negotiate::{Encoding, Form, Negotiated, negotiate};
pub(crate) use options::dry_run;
pub use options::{FieldValidation, Propagation, QueryOptions, RvMatch};
