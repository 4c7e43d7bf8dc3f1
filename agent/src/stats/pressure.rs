//! Pressure stall information (PSI, KEP-4205): how long processes waited for a resource
//! that others held. Reading is apart from understanding, which is pure.
//! <https://docs.kernel.org/accounting/psi.html>.

use serde_json::{Value, json};

/// How long something waited, and for which part of the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stall {
    pub total_us: u64,
    /// Of the last 10, 60 and 300 seconds, in hundredths of a per cent.
    pub avg10: u32,
    pub avg60: u32,
    pub avg300: u32,
}

/// What waited for one resource: any of the processes, all of them at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stalls {
    pub some: Stall,
    pub full: Stall,
}

/// Each is absent where the kernel does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    pub cpu: Option<Stalls>,
    pub memory: Option<Stalls>,
    pub io: Option<Stalls>,
}

/// Of a cgroup's files, as `cpu.pressure`. None reads those of the machine in their place.
pub fn read(file: &dyn Fn(&str) -> Option<String>) -> Pressure {
    let of = |resource: &str| parse(&file(&format!("{resource}.pressure"))?);
    Pressure {
        cpu: of("cpu"),
        memory: of("memory"),
        io: of("io"),
    }
}

/// Lines as `some avg10=1.53 avg60=1.87 avg300=1.73 total=1088168194`. Kernels before 5.13
/// have no line `full` for CPU.
fn parse(text: &str) -> Option<Stalls> {
    let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    Some(Stalls {
        some: stall(line("some")?)?,
        full: line("full").and_then(stall).unwrap_or_default(),
    })
}

fn stall(line: &str) -> Option<Stall> {
    let get = |name: &str| {
        let mut pairs = line.split(' ');
        pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Stall {
        total_us: get("total")?.trim().parse().ok()?,
        avg10: hundredths(get("avg10")?)?,
        avg60: hundredths(get("avg60")?)?,
        avg300: hundredths(get("avg300")?)?,
    })
}

/// The kernel always writes two decimals.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.trim().split_once('.')?;
    let decimals: u32 = (decimals.len() == 2).then(|| decimals.parse().ok())??;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(decimals)
}

impl Stalls {
    /// As the Summary API has it: `total` in the kernel's microseconds, averages in per cent.
    pub fn shown(&self) -> Value {
        let one = |stall: &Stall| {
            let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
            json!({
                "total": stall.total_us, "avg10": percent(stall.avg10),
                "avg60": percent(stall.avg60), "avg300": percent(stall.avg300),
            })
        };
        json!({"full": one(&self.full), "some": one(&self.some)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes() {
        let text = "some avg10=1.53 avg60=0.07 avg300=100.00 total=1088168194\n\
                    full avg10=0.00 avg60=0.00 avg300=0.01 total=3463792\n";
        let found = parse(text).expect("stalls");
        assert_eq!(
            (found.some.avg10, found.some.avg60, found.some.avg300),
            (153, 7, 10_000)
        );
        assert_eq!((found.some.total_us, found.full.total_us), (1_088_168_194, 3_463_792));
        assert_eq!(
            found.shown().to_string(),
            r#"{"full":{"avg10":0.0,"avg300":0.01,"avg60":0.0,"total":3463792},"some":{"avg10":1.53,"avg300":100.0,"avg60":0.07,"total":1088168194}}"#
        );
    }

    #[test]
    fn old_kernels_have_less_and_garbage_is_nothing() {
        let old = parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n").expect("stalls");
        assert_eq!((old.some.total_us, old.full), (5, Stall::default()));
        for text in [
            "",
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
            "some avg10=0.00 avg60=0.00 avg300=0.00\n",
            "some avg10=x avg60=0.00 avg300=0.00 total=5\n",
            "some avg10=0 avg60=0.00 avg300=0.00 total=5\n",
            "some avg10=99999999999.00 avg60=0.00 avg300=0.00 total=5\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(read(&|_| None), Pressure::default());
    }
}
