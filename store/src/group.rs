//! Which group of servers this one belongs to. Restoring a snapshot and forcing a server
//! to go on alone each begin another group: servers of the old one, which may know of
//! more than the new one does, are not listened to.
//!
//! The number lies in `group`, decimal; without the file it is 0, the first group's.

use crate::host::{Disk, Open};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const FILE: &str = "group";

pub struct Group {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// `None`: whoever is heard first says.
    number: Mutex<Option<u64>>,
}

/// Writes the number, durably and as a whole.
pub fn write(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let (path, beside) = (dir.join(FILE), dir.join("group.new"));
    let file = disk.open(&beside, Open::Empty)?;
    file.write_all_at(format!("{number}\n").as_bytes(), 0)?;
    file.sync()?;
    disk.rename(&beside, &path)?;
    disk.sync_dir(dir)
}

impl Group {
    /// `fresh`: this server has nothing yet, and is to be taken into a group.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path, fresh: bool) -> io::Result<Group> {
        let kept = disk.open(&dir.join(FILE), Open::Read).and_then(|file| file.read_all());
        let number = match kept {
            Ok(text) => Some(
                String::from_utf8_lossy(&text)
                    .trim()
                    .parse()
                    .map_err(io::Error::other)?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (!fresh).then_some(0),
            Err(error) => return Err(error),
        };
        Ok(Group {
            disk: disk.clone(),
            dir: dir.into(),
            number: Mutex::new(number),
        })
    }

    pub fn number(&self) -> u64 {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        number.unwrap_or(0)
    }

    /// Is this a message of the own group? The first one says which that is, if nothing else does.
    pub fn admit(&self, asking: u64) -> Result<(), String> {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        match *number {
            Some(mine) if mine == asking => Ok(()),
            Some(mine) => Err(format!(
                "server belongs to group {mine} and not to {asking}, which was given up by a restore or by --force-single: empty the store of the server that was left behind and let it join again"
            )),
            None => {
                if asking != 0 {
                    write(&*self.disk, &self.dir, asking)
                        .map_err(|e| format!("the group's number could not be kept: {e}"))?;
                }
                *number = Some(asking);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::OsDisk;

    fn open(dir: &Path, fresh: bool) -> Group {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        Group::open(&disk, dir, fresh).expect("opened")
    }

    #[test]
    fn a_newcomer_takes_the_first_group_it_hears_of_and_keeps_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let fresh = open(dir.path(), true);
        fresh.admit(7).expect("the first one");
        assert!(fresh.admit(0).is_err());
        let again = open(dir.path(), false);
        assert_eq!(again.number(), 7);
        assert!(again.admit(8).expect_err("another group").contains("join again"));
        again.admit(7).expect("its own");
    }

    #[test]
    fn a_server_from_before_groups_is_of_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = open(dir.path(), false);
        old.admit(0).expect("its own");
        assert!(old.admit(9).is_err());
    }
}
