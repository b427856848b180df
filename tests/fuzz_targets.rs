//! Runs the fuzz targets on their corpora and on random changes of the corpora. This finds less
//! than `make test-fuzz`, and needs no nightly compiler and no fuzzer. `AXM_FUZZ_SECONDS` is the
//! time for each target.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use targets::{TARGETS, Target};

/// Pieces of the texts that the library reads.
const PIECES: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"}",
    b"\\",
    b"\\u0000",
    b"=",
    b":",
    b",",
    b"${",
    b"\n",
    b"\r",
    b"\xff",
    b"\xe2\x80\xae",
    b"0",
    b"-9223372036854775808",
    b"9223372036854775807",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort_unstable();
    files
        .iter()
        .map(|file| fs::read(file).expect("read"))
        .collect()
}

fn changed(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        let place = rng.random_range(0..=data.len());
        let end = rng.random_range(place..=data.len().min(place + 16));
        match rng.random_range(0..6) {
            0 => drop(data.drain(place..end)),
            1 => data.insert(place, rng.random()),
            2 if place < data.len() => data[place] ^= 1 << rng.random_range(0..8),
            3 => drop(data.splice(
                place..end,
                PIECES[rng.random_range(0..PIECES.len())].iter().copied(),
            )),
            4 => {
                let copied = data[place..end].to_vec();
                drop(data.splice(place..place, copied));
            }
            _ => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                data.truncate(place);
                data.extend_from_slice(&other[from..]);
            }
        }
    }
    data
}

fn attempt((name, target): Target, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        panic!("{name} fails with {}", data.escape_ascii());
    }
}

#[test]
fn every_target_bears_changes_of_its_corpus() {
    let seconds = std::env::var("AXM_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(1.0, |seconds| seconds.parse().expect("a number"));
    for target in TARGETS {
        let corpus = corpus(target.0);
        corpus.iter().for_each(|data| attempt(*target, data));
        let mut rng = StdRng::seed_from_u64(rand::random());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs_f64(seconds) {
            attempt(*target, &changed(&corpus, &mut rng));
        }
    }
}

/// The modules of the tool that the included code needs.
mod output {
    pub fn now() -> String {
        String::new()
    }
}
