//! A backup that was taken is whole, is there, and has what was committed up to its revision.

use super::Report;
use skiff_store::backup::About;

pub fn check(report: &Report, file: &str, about: &About) -> Result<(), String> {
    let keys = report.values_at(about.revision).len() as u64;
    match keys == about.keys {
        true => Ok(()),
        false => Err(format!(
            "{file} has {} keys at revision {}, there were {keys}",
            about.keys, about.revision
        )),
    }
}
