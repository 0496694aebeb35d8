//! Waiting for a condition, with a deadline and a reason.

use std::thread;
use std::time::{Duration, Instant};

/// For what a quiet machine does in a second or a few: long enough for one that does ten other things.
pub const SOON: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(40);

/// Looks until it is so, and gives back what was found. `Err` says what was found instead.
///
/// Panics after `limit` with the last of these, so that a failure tells what it was waiting for and how near it came.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => {
                println!("{what}: after {:.2} s", start.elapsed().as_secs_f64());
                return found;
            }
            Err(instead) if start.elapsed() > limit => {
                panic!("{what}: not within {} s, but {instead}", limit.as_secs());
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks again and again for as long as that; panics as soon as it is not so.
pub fn throughout(what: &str, span: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(instead) = look() {
            panic!("{what}: not so after {:.2} s, but {instead}", start.elapsed().as_secs_f64());
        }
        thread::sleep(PAUSE);
    }
}
