//! The binary form of commands: what the log holds and servers send each other.
//! Operations and comparisons that came later have tags of their own, so what an
//! earlier release wrote is read as it was. Pure.

use super::*;
use crate::mvcc::TXN_DEPTH_MAX;

fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    put_bytes(out, &range.start);
    match &range.end {
        RangeEnd::One => out.push(0),
        RangeEnd::Before(end) => {
            out.push(1);
            put_bytes(out, end);
        }
        RangeEnd::Open => out.push(2),
    }
}

fn read_range(r: &mut Reader) -> Result<KeyRange, CodecError> {
    let start = r.bytes("key")?;
    let end = match r.u8("range")? {
        0 => RangeEnd::One,
        1 => RangeEnd::Before(r.bytes("range end")?),
        2 => RangeEnd::Open,
        tag => return Err(CodecError::Tag { what: "a range", tag }),
    };
    Ok(KeyRange { start, end })
}

/// What of a put is given, in one byte.
const WITH_RECORD: u8 = 1;
const WITH_LEASE: u8 = 2;

fn put_op(out: &mut Vec<u8>, op: &Op, seal: &dyn Seal) {
    let mut keyed = |tag, key: &Bytes| {
        out.push(tag);
        put_bytes(out, key);
    };
    match op {
        Op::Put { key, record } => {
            keyed(0, key);
            put_record(out, key, record, seal);
        }
        Op::Delete { key } => keyed(1, key),
        Op::Get { key } => keyed(3, key),
        Op::PutWith { key, record, lease } => {
            keyed(4, key);
            let flag = |given, flag| if given { flag } else { 0 };
            out.push(flag(record.is_some(), WITH_RECORD) | flag(lease.is_some(), WITH_LEASE));
            if let Some(lease) = lease {
                put_u64(out, *lease as u64);
            }
            if let Some(record) = record {
                put_record(out, key, record, seal);
            }
        }
        Op::DeleteRange(range) => {
            out.push(5);
            put_range(out, range);
        }
        Op::Range(query) => {
            out.push(6);
            put_range(out, &query.range);
            put_u64(out, query.limit as u64);
            put_u64(out, query.revision);
            out.push(u8::from(query.count_only));
        }
        Op::Txn(txn) => {
            out.push(7);
            put_txn(out, txn, seal);
        }
    }
}

fn read_op(r: &mut Reader, depth: usize, seal: &dyn Seal) -> Result<Op, CodecError> {
    Ok(match r.u8("operation")? {
        0 => {
            let key = r.bytes("key")?;
            let (record, _) = read_record(r, &key, seal)?;
            Op::Put { key, record }
        }
        1 => Op::Delete { key: r.bytes("key")? },
        // A prefix's own tag, from before there were ranges.
        2 => Op::DeleteRange(KeyRange::prefix(r.bytes("key")?)),
        3 => Op::Get { key: r.bytes("key")? },
        4 => {
            let key = r.bytes("key")?;
            let flags = r.u8("put")?;
            if flags & !(WITH_RECORD | WITH_LEASE) != 0 {
                return Err(CodecError::Tag {
                    what: "a put",
                    tag: flags,
                });
            }
            let lease = match flags & WITH_LEASE {
                0 => None,
                _ => Some(read_lease_id(r)?),
            };
            let record = match flags & WITH_RECORD {
                0 => None,
                _ => Some(read_record(r, &key, seal)?.0),
            };
            Op::PutWith { key, record, lease }
        }
        5 => Op::DeleteRange(read_range(r)?),
        6 => Op::Range(Query {
            range: read_range(r)?,
            limit: usize::try_from(r.u64("limit")?).map_err(|_| CodecError::Invalid("limit"))?,
            revision: r.u64("revision")?,
            count_only: r.u8("count")? != 0,
        }),
        7 if depth < TXN_DEPTH_MAX => Op::Txn(Box::new(read_txn(r, depth + 1, seal)?)),
        7 => return Err(CodecError::Invalid("the depth of the transaction")),
        tag => {
            return Err(CodecError::Tag {
                what: "an operation",
                tag,
            });
        }
    })
}

fn put_compare(out: &mut Vec<u8>, compare: &Compare, seal: &dyn Seal) {
    let mut keyed = |tag, key: &Bytes| {
        out.push(tag);
        put_bytes(out, key);
    };
    match compare {
        Compare::ModRevision(key, n) => {
            keyed(0, key);
            put_u64(out, *n);
        }
        Compare::Test(test) => {
            out.push(4);
            put_range(out, &test.range);
            out.push(test.relation as u8);
            let (tag, number) = match &test.target {
                Target::Version(n) => (0, *n),
                Target::CreateRevision(n) => (1, *n),
                Target::ModRevision(n) => (2, *n),
                Target::Lease(id) => (3, *id as u64),
                Target::Body(body) => {
                    out.push(4);
                    return put_bytes(out, &seal.seal(&test.range.start, body));
                }
            };
            out.push(tag);
            put_u64(out, number);
        }
    }
}

fn read_compare(r: &mut Reader, seal: &dyn Seal) -> Result<Compare, CodecError> {
    Ok(match r.u8("comparison")? {
        0 => Compare::ModRevision(r.bytes("key")?, r.u64("mod revision")?),
        // Equality of one key's number or body, from before there was the general form.
        1 => equal(r.bytes("key")?, Target::CreateRevision(r.u64("create revision")?)),
        2 => equal(r.bytes("key")?, Target::Version(r.u64("version")?)),
        3 => {
            let key = r.bytes("key")?;
            let body = seal.open(&key, r.bytes("body")?)?;
            equal(key, Target::Body(body))
        }
        4 => Compare::Test(Box::new(read_test(r, seal)?)),
        tag => {
            return Err(CodecError::Tag {
                what: "a comparison",
                tag,
            });
        }
    })
}

fn equal(key: Bytes, target: Target) -> Compare {
    Compare::Test(Box::new(Test {
        range: KeyRange::one(key),
        relation: Relation::Equal,
        target,
    }))
}

fn read_test(r: &mut Reader, seal: &dyn Seal) -> Result<Test, CodecError> {
    let range = read_range(r)?;
    let relations = [Relation::Equal, Relation::NotEqual, Relation::Greater, Relation::Less];
    let tag = r.u8("relation")?;
    let relation = relations.into_iter().find(|known| *known as u8 == tag);
    let relation = relation.ok_or(CodecError::Tag {
        what: "a relation",
        tag,
    })?;
    let target = match r.u8("target")? {
        0 => Target::Version(r.u64("version")?),
        1 => Target::CreateRevision(r.u64("create revision")?),
        2 => Target::ModRevision(r.u64("mod revision")?),
        // A comparison may ask for a negative one; none is.
        3 => Target::Lease(r.u64("lease")? as LeaseId),
        4 => Target::Body(seal.open(&range.start, r.bytes("body")?)?),
        tag => return Err(CodecError::Tag { what: "a target", tag }),
    };
    Ok(Test {
        range,
        relation,
        target,
    })
}

fn put_txn(out: &mut Vec<u8>, txn: &Txn, seal: &dyn Seal) {
    put_u64(out, txn.compare.len() as u64);
    txn.compare.iter().for_each(|c| put_compare(out, c, seal));
    for ops in [&txn.then, &txn.or_else] {
        put_u64(out, ops.len() as u64);
        ops.iter().for_each(|op| put_op(out, op, seal));
    }
}

fn read_txn(r: &mut Reader, depth: usize, seal: &dyn Seal) -> Result<Txn, CodecError> {
    let compare = (0..r.count("comparisons")?)
        .map(|_| read_compare(r, seal))
        .collect::<Result<_, _>>()?;
    let then = (0..r.count("operations")?)
        .map(|_| read_op(r, depth, seal))
        .collect::<Result<_, _>>()?;
    let or_else = (0..r.count("operations")?)
        .map(|_| read_op(r, depth, seal))
        .collect::<Result<_, _>>()?;
    Ok(Txn { compare, then, or_else })
}

pub fn put_command(out: &mut Vec<u8>, command: &Command, seal: &dyn Seal) {
    out.push(CODEC_VERSION);
    put_bare_command(out, command, seal);
}

fn put_bare_command(out: &mut Vec<u8>, command: &Command, seal: &dyn Seal) {
    match command {
        Command::Txn(txn) => {
            out.push(0);
            put_txn(out, txn, seal);
        }
        Command::Compact(revision) => {
            out.push(1);
            put_u64(out, *revision);
        }
        Command::Grant(lease) => {
            out.push(2);
            put_lease(out, lease);
        }
        Command::Revoke(id) => {
            out.push(3);
            put_u64(out, *id as u64);
        }
        Command::Alarm { server, on } => {
            out.push(5);
            put_u64(out, *server);
            out.push(u8::from(*on));
        }
        Command::Once(tag, command) => {
            out.push(4);
            [tag.origin, tag.boot, tag.number, tag.settled]
                .into_iter()
                .for_each(|n| put_u64(out, n));
            put_bare_command(out, command, seal);
        }
        Command::Batch(commands) => {
            out.push(6);
            put_u64(out, commands.len() as u64);
            commands.iter().for_each(|c| put_bare_command(out, c, seal));
        }
    }
}

pub fn read_command(bytes: Bytes, seal: &dyn Seal) -> Result<Command, CodecError> {
    let mut r = Reader::new(bytes);
    let found = r.u8("version")?;
    if found != CODEC_VERSION {
        return Err(CodecError::Version { found });
    }
    let command = match r.u8("command")? {
        6 => {
            let commands = (0..r.count("commands")?).map(|_| {
                let tag = r.u8("command")?;
                read_numbered_command(&mut r, tag, seal)
            });
            Command::Batch(commands.collect::<Result<_, _>>()?)
        }
        tag => read_numbered_command(&mut r, tag, seal)?,
    };
    match r.is_empty() {
        true => Ok(command),
        false => Err(CodecError::Invalid("what follows the command")),
    }
}

/// A command that may have the number of its request.
fn read_numbered_command(r: &mut Reader, tag: u8, seal: &dyn Seal) -> Result<Command, CodecError> {
    if tag != 4 {
        return read_bare_command(r, tag, seal);
    }
    let tag = Tag {
        origin: r.u64("origin")?,
        boot: r.u64("start")?,
        number: r.u64("number")?,
        settled: r.u64("settled")?,
    };
    let inner = r.u8("command")?;
    Ok(Command::Once(tag, Box::new(read_bare_command(r, inner, seal)?)))
}

fn read_bare_command(r: &mut Reader, tag: u8, seal: &dyn Seal) -> Result<Command, CodecError> {
    Ok(match tag {
        0 => Command::Txn(Arc::new(read_txn(r, 1, seal)?)),
        1 => Command::Compact(r.u64("revision")?),
        2 => Command::Grant(read_lease(r)?),
        3 => Command::Revoke(read_lease_id(r)?),
        5 => Command::Alarm {
            server: r.u64("server")?,
            on: r.u8("alarm")? != 0,
        },
        tag => return Err(CodecError::Tag { what: "a command", tag }),
    })
}
