//! What stands for sled on the disk in memory.

use super::*;
use skiff_store::host::TableItem;

pub(super) struct SimTable {
    pub(super) disk: SimDisk,
    pub(super) number: u64,
    /// What it held when it was opened: it is read only then.
    pub(super) held: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl SimTable {
    fn change(&mut self, batch: Vec<TableWrite>) -> io::Result<()> {
        self.disk.full()?;
        let powered = self.disk.powered()?;
        let mut platter = lock(&self.disk.platter);
        let table = platter.tables.get_mut(&self.number).ok_or_else(absent)?;
        write_table(&mut table.content, &batch);
        write_table(&mut self.held, &batch);
        table.unsynced.push(batch);
        if table.unsynced.len() > UNSYNCED_BATCHES_MAX {
            let old = table.unsynced.remove(0);
            write_table(&mut table.synced, &old);
        }
        match powered {
            true => Ok(()),
            false => Err(io::Error::other("the power failed")),
        }
    }
}

impl Table for SimTable {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.disk.step()?;
        Ok(self.held.get(key).cloned())
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = io::Result<TableItem>> + 'a> {
        let prefix = prefix.to_vec();
        let items = self.held.range(prefix.clone()..);
        let items = items.take_while(move |(key, _)| key.starts_with(&prefix));
        Box::new(items.map(|(key, value)| Ok((key.clone(), value.clone()))))
    }

    fn write(&mut self, batch: Vec<TableWrite>) -> io::Result<()> {
        self.change(batch)
    }

    fn clear(&mut self) -> io::Result<()> {
        let all = self.held.keys().map(|key| (key.clone(), None)).collect();
        self.change(all)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.powered().map(|_| ())
    }
}
