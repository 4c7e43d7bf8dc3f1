//! Identity and admission: certificates, tokens, authorizers, built-in
//! admission plugins, bootstrap policy. Decides; does no I/O of its own but
//! reading and writing the key files of the PKI.

pub mod contract;

pub use contract::*;
