//! The file: a description, sealed files, the store's own snapshot, and a digest of all.
//! Its length is a multiple of 512 and a digest longer, which etcd's tools look for.

use super::{BackupError, io};
use crate::codec::{self, CodecError, Reader, Seal};
use crate::contract::Snapshot as _;
use crate::host::{Disk, DiskFile, Open, OsDisk, Stream};
use crate::snapshot::{self, Point};
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{self as std_io, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"skiffbak";
pub const VERSION: u32 = 1;

/// Magic, version, and the lengths of the description and of the sealed files.
const HEAD: usize = 20;

const BLOCK: u64 = 512;

/// A longer description, or more of files, is damage.
const PART_MAX: u32 = 16 << 20;

/// What seals the files.
pub type SecretKey = [u8; 32];

/// A file that a cluster cannot do without, by its path below the data directory.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    pub path: String,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub revision: u64,
    pub keys: u64,
    /// The server that took it.
    pub server: u64,
    /// Files are in it, sealed; without them only who has the store's key can use it.
    pub sealed_files: u64,
    pub made_by: String,
    /// Of the whole file.
    pub bytes: u64,
}

/// What goes into a backup.
pub(crate) struct Source<'a> {
    pub point: &'a Point,
    pub seal: &'a dyn Seal,
    pub files: Option<(&'a [SecretFile], &'a SecretKey)>,
    pub server: u64,
    pub created_ms: u64,
    pub made_by: &'a str,
}

/// Counts and digests what goes through.
struct Digesting<W> {
    out: W,
    digest: Context,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> std_io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std_io::Result<()> {
        self.out.flush()
    }
}

fn cipher(key: &SecretKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are a key of AES-256"))
}

/// Nonce, ciphertext and tag; the description is authenticated with them.
fn seal_files(files: &[SecretFile], key: &SecretKey, about: &[u8]) -> std_io::Result<Vec<u8>> {
    let mut text = Vec::new();
    codec::put_u64(&mut text, files.len() as u64);
    for file in files {
        codec::put_bytes(&mut text, file.path.as_bytes());
        codec::put_bytes(&mut text, &file.bytes);
    }
    let mut nonce = [0; NONCE_LEN];
    let drawn = SystemRandom::new().fill(&mut nonce);
    drawn.map_err(|_| std_io::Error::other("the system gives no random numbers"))?;
    let sealed = cipher(key).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut text);
    sealed.map_err(|_| std_io::Error::other("the files are too large to be sealed"))?;
    Ok([&nonce[..], &text].concat())
}

fn put_about(source: &Source) -> Vec<u8> {
    let state = &source.point.state;
    let numbers = [
        source.created_ms,
        state.revision(),
        state.tree().len() as u64,
        source.server,
        source.files.map_or(0, |(files, _)| files.len() as u64),
    ];
    let mut out = Vec::new();
    numbers.into_iter().for_each(|n| codec::put_u64(&mut out, n));
    codec::put_bytes(&mut out, source.made_by.as_bytes());
    out
}

fn read_about(bytes: Bytes) -> Result<About, CodecError> {
    let mut r = Reader::new(bytes);
    Ok(About {
        created_ms: r.u64("time")?,
        revision: r.u64("revision")?,
        keys: r.u64("keys")?,
        server: r.u64("server")?,
        sealed_files: r.u64("files")?,
        made_by: r.text("release")?.into(),
        bytes: 0,
    })
}

/// Writes a backup whose name appears when all of it is on the disk.
pub(crate) fn write(disk: &dyn Disk, path: &Path, source: &Source) -> Result<About, BackupError> {
    match disk.open(path, Open::Read) {
        Ok(_) => return Err(BackupError::Exists(path.display().to_string())),
        Err(error) if error.kind() == std_io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("writing", path)(error)),
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = Path::new(&name);
    let written = write_file(disk, partial, source).and_then(|about| {
        disk.rename(partial, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        disk.sync_dir(dir.unwrap_or(Path::new(".")))?;
        Ok(about)
    });
    written.map_err(|source| {
        let _ = disk.remove(partial);
        io("writing", path)(source)
    })
}

fn write_file(disk: &dyn Disk, path: &Path, source: &Source) -> std_io::Result<About> {
    let file = disk.open(path, Open::Empty)?;
    let stream = Stream {
        file: file.clone(),
        at: 0,
    };
    let mut out = Digesting {
        out: BufWriter::with_capacity(256 << 10, stream),
        digest: Context::new(&SHA256),
        bytes: 0,
    };
    let about = put_about(source);
    let files = match source.files {
        Some((files, key)) => seal_files(files, key, &about)?,
        None => Vec::new(),
    };
    out.write_all(&MAGIC)?;
    for number in [VERSION, about.len() as u32, files.len() as u32] {
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(&about)?;
    out.write_all(&files)?;
    let (mut out, _) = snapshot::write_into(out, source.point, source.seal)?;
    let rest = (BLOCK - out.bytes % BLOCK) % BLOCK;
    out.write_all(&vec![0; rest as usize])?;
    let digest = out.digest.finish();
    out.out.write_all(digest.as_ref())?;
    out.out.flush()?;
    file.sync()?;
    let mut about = read_about(about.into()).map_err(std_io::Error::other)?;
    about.bytes = out.bytes + SHA256_OUTPUT_LEN as u64;
    Ok(about)
}

/// A backup whose digest was found right.
pub(super) struct Opened {
    /// Where the store's snapshot begins.
    pub content_at: u64,
    pub about: About,
    described: Vec<u8>,
    sealed: Vec<u8>,
    name: String,
}

fn damaged(path: &Path, why: impl ToString) -> BackupError {
    BackupError::Damaged {
        file: path.display().to_string(),
        why: why.to_string(),
    }
}

/// Reads all of a file against its digest.
fn check_digest(path: &Path, file: Arc<dyn DiskFile>, bytes: u64) -> Result<(), BackupError> {
    let mut input = BufReader::with_capacity(256 << 10, Stream { file, at: 0 });
    let mut left = bytes - SHA256_OUTPUT_LEN as u64;
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 256 << 10]);
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = &mut buffer[..most];
        input.read_exact(piece).map_err(io("reading", path))?;
        digest.update(piece);
        left -= most as u64;
    }
    let mut kept = [0; SHA256_OUTPUT_LEN];
    input.read_exact(&mut kept).map_err(io("reading", path))?;
    match digest.finish().as_ref() == kept {
        true => Ok(()),
        false => Err(damaged(path, "its digest does not match")),
    }
}

pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Opened, BackupError> {
    open_and(disk, path, true)
}

fn open_and(disk: &dyn Disk, path: &Path, digest: bool) -> Result<Opened, BackupError> {
    let file = disk.open(path, Open::Read).map_err(io("opening", path))?;
    let bytes = file.len().map_err(io("reading", path))?;
    let foreign = || BackupError::Foreign(path.display().to_string());
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).map_err(|_| foreign())?;
    if head[..8] != MAGIC {
        return Err(foreign());
    }
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if number(8) != VERSION {
        return Err(BackupError::Version {
            file: path.display().to_string(),
            found: number(8),
        });
    }
    if bytes % BLOCK != SHA256_OUTPUT_LEN as u64 {
        return Err(damaged(
            path,
            format!("it has {bytes} bytes, which is not the length of a whole one"),
        ));
    }
    if digest {
        check_digest(path, file.clone(), bytes)?;
    }
    let mut stream = Stream { file, at: HEAD as u64 };
    let mut part = |length: u32| -> Result<Vec<u8>, BackupError> {
        if length > PART_MAX {
            return Err(damaged(path, format!("a part of {length} bytes cannot be")));
        }
        let mut part = vec![0; length as usize];
        stream.read_exact(&mut part).map_err(|e| damaged(path, e))?;
        Ok(part)
    };
    let (described, sealed) = (part(number(12))?, part(number(16))?);
    let mut about = read_about(described.clone().into()).map_err(|e| damaged(path, e))?;
    about.bytes = bytes;
    Ok(Opened {
        content_at: (HEAD + described.len() + sealed.len()) as u64,
        about,
        described,
        sealed,
        name: path.display().to_string(),
    })
}

impl Opened {
    pub fn files(&self, key: &SecretKey) -> Result<Vec<SecretFile>, BackupError> {
        let wrong = || BackupError::WrongKey(self.name.clone());
        let (nonce, text) = self.sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = cipher(key).open_in_place(nonce, Aad::from(&self.described), &mut text);
        let plain = Bytes::copy_from_slice(opened.map_err(|_| wrong())?);
        let read = || -> Result<Vec<SecretFile>, CodecError> {
            let mut r = Reader::new(plain);
            (0..r.count("files")?)
                .map(|_| {
                    let path = r.text("path")?.into();
                    let bytes = r.bytes("file")?.to_vec();
                    Ok(SecretFile { path, bytes })
                })
                .collect()
        };
        read().map_err(|why| BackupError::Damaged {
            file: self.name.clone(),
            why: why.to_string(),
        })
    }
}

/// Looks whether a backup is whole, and says what it is. Reads all of it.
pub fn check(path: &Path) -> Result<About, BackupError> {
    check_on(&OsDisk, path)
}

/// As `check`, on any disk.
pub fn check_on(disk: &dyn Disk, path: &Path) -> Result<About, BackupError> {
    Ok(open(disk, path)?.about)
}

/// What a backup says of itself, taken at its word.
pub fn describe(path: &Path) -> Result<About, BackupError> {
    Ok(open_and(&OsDisk, path, false)?.about)
}

/// The files in a backup that are sealed with this key.
pub fn open_files(path: &Path, key: &SecretKey) -> Result<Vec<SecretFile>, BackupError> {
    open(&OsDisk, path)?.files(key)
}
