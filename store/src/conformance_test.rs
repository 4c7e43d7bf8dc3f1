//! openraft's own storage suite against our log and state machine.

use crate::applied::AppliedState;
use crate::codec::Plain;
use crate::host::{Disk, OsDisk};
use crate::log::Log;
use crate::machine::{Machine, Snapshots};
use crate::once::Once;
use crate::raft_types::Types;
use crate::snapshot::Point;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<Types, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let point = Point::default();
        let log = Log::open(&disk, dir.path(), 8 << 20, Arc::new(Plain)).expect("log");
        let applied = Arc::new(AppliedState::new(point));
        let snapshots = Snapshots::open(&disk, dir.path(), applied.clone()).expect("snapshots");
        let once = Arc::new(Once::new(1, disk, dir.path()));
        let machine = Machine::new(
            applied,
            log.clone(),
            Arc::new(Plain),
            None,
            snapshots,
            Arc::default(),
            once,
        );
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_storage_suite() {
    Suite::test_all(Builder).await.expect("the suite passes");
}
