//! Parts of timestamps (in UTC or a named zone) and of durations.

use super::{Function, fail, no_overload};
use crate::error::EvalError;
use crate::value::Value;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

type Made<'a> = Result<Value<'a>, EvalError>;

pub fn function(name: &str) -> Option<Function> {
    Some(match name {
        "getFullYear" => |_, args| part(args, |at| i64::from(at.year()), None),
        "getMonth" => |_, args| part(args, |at| i64::from(at.month()) - 1, None),
        "getDayOfYear" => |_, args| part(args, |at| i64::from(at.day_of_year()) - 1, None),
        "getDayOfMonth" => |_, args| part(args, |at| i64::from(at.day()) - 1, None),
        "getDate" => |_, args| part(args, |at| i64::from(at.day()), None),
        "getDayOfWeek" => |_, args| part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()), None),
        "getHours" => |_, args| part(args, |at| i64::from(at.hour()), Some(|nanos| nanos / 3_600_000_000_000)),
        "getMinutes" => |_, args| part(args, |at| i64::from(at.minute()), Some(|nanos| nanos / 60_000_000_000)),
        "getSeconds" => |_, args| part(args, |at| i64::from(at.second()), Some(|nanos| nanos / 1_000_000_000)),
        "getMilliseconds" => |_, args| {
            part(
                args,
                |at| i64::from(at.subsec_nanosecond() / 1_000_000),
                Some(|nanos| nanos / 1_000_000),
            )
        },
        _ => return None,
    })
}

fn part<'a>(args: &[Value<'a>], of_time: fn(&DateTime) -> i64, of_duration: Option<fn(i64) -> i64>) -> Made<'a> {
    let (at, offset) = match (args, of_duration) {
        ([Value::Timestamp(at)], _) => (at, 0),
        ([Value::Timestamp(at), Value::String(name)], _) => {
            (at, zone(name.as_str())?.to_offset(at.timestamp()).seconds())
        }
        ([Value::Duration(nanos)], Some(of_duration)) => return Ok(Value::Int(of_duration(*nanos))),
        _ => return no_overload(),
    };
    let Some(at) = at.civil(offset) else {
        return fail("timestamp overflow");
    };
    Ok(Value::Int(of_time(&at)))
}

/// `Europe/Berlin`, or an offset: `+02:00`, `-08:00`, `02:00`.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let seconds = || -> Option<i32> {
            let hour: i32 = hours.parse().ok()?;
            let minute: i32 = minutes.parse().ok().filter(|minute| (0..60).contains(minute))?;
            let sign = if hours.starts_with('-') { -1 } else { 1 };
            Some(hour * 3600 + sign * minute * 60)
        };
        return match seconds().and_then(|seconds| Offset::from_seconds(seconds).ok()) {
            Some(offset) => Ok(TimeZone::fixed(offset)),
            None => fail(format!("unknown time zone {name}")),
        };
    }
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).or_else(|_| fail(format!("unknown time zone {name}")))
}
