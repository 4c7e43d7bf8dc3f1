//! A full disk: writes are refused, reads go on, and space makes it well again.

mod support;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use skiff_store::*;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use support::*;

/// A small file system of its own, gone with the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Option<Tmpfs> {
        let mounted = mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("size=80m"));
        mounted.ok().map(|()| Tmpfs(at.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_writes_and_recovers() {
    let dir = tempfile::tempdir().expect("dir");
    let Some(_tmpfs) = Tmpfs::mount(dir.path()) else {
        eprintln!("SKIPPED: this test mounts a tmpfs, which needs root");
        return;
    };
    let store = RaftStore::open(StoreConfig::new(dir.path().join("store")))
        .await
        .expect("open");
    store.txn(put("/before", "1")).await.expect("put");
    let filler = dir.path().join("filler");
    let mut fill = std::fs::File::create(&filler).expect("filler");
    std::io::copy(&mut std::io::repeat(1), &mut fill).expect_err("the file system fills up");
    drop(fill);
    let body = "x".repeat(512 << 10);
    let mut written = 0;
    let error = loop {
        match store.txn(put(&format!("/fill/{written}"), &body)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 64, "the disk never seemed full");
    };
    assert!(
        matches!(&error, StoreError::ReadOnly(why) if why.contains("free some")),
        "{error}"
    );
    assert!(written > 0, "reserved space is used first");
    assert_eq!(store.snapshot().count(b"/fill/"), written);
    assert!(matches!(
        store.txn(put("/again", "")).await,
        Err(StoreError::ReadOnly(_))
    ));
    std::fs::remove_file(&filler).expect("remove");
    store.txn(put("/after", "1")).await.expect("writes go on by themselves");
    // What is written behind is written again too: it makes up for all it missed.
    let state = dir.path().join("store/state");
    let size = || -> u64 {
        // Large values are files of their own.
        let dirs = [state.clone(), state.join("blobs")];
        let files = dirs
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flatten()
            .flatten();
        files.filter_map(|f| f.metadata().ok()).map(|m| m.blocks() * 512).sum()
    };
    let least = (written as u64) * body.len() as u64;
    for n in 0.. {
        if size() > least {
            break;
        }
        assert!(n < 200, "the state database has {} of {least} bytes", size());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        store.txn(put("/again-after", &n.to_string())).await.expect("put");
    }
    store.shutdown().await;
    let again = RaftStore::open(StoreConfig::new(dir.path().join("store")))
        .await
        .expect("open");
    let snapshot = again.snapshot();
    assert_eq!(snapshot.count(b"/fill/"), written);
    assert!(snapshot.get(b"/after").is_some() && snapshot.get(b"/again").is_none());
    again.shutdown().await;
}
