//! How the simulations run the histories that they generate.

/// `$AXM_SIMULATIONS` says how many times as many as usual.
pub(crate) fn times() -> u64 {
    let times = std::env::var("AXM_SIMULATIONS").ok();
    times.map_or(1, |it| it.parse().expect("a number"))
}

/// Says in which history something went wrong, so that it can be had again.
pub(crate) fn run(name: &str, history: impl FnOnce()) {
    let history = std::panic::AssertUnwindSafe(history);
    if let Err(panic) = std::panic::catch_unwind(history) {
        eprintln!("in the history of {name}");
        std::panic::resume_unwind(panic);
    }
}
