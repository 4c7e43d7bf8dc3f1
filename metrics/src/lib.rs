//! Figures that a component counts about itself, and the page that shows them. A component
//! owns its [`Families`]; the API server, which knows nothing of it, writes them on `/metrics`. And
//! pages about the component itself, [`about`].

pub mod about;
mod families;
mod text;

pub use families::{Families, Family};
pub use text::{Histogram, Labels, Page, number};
