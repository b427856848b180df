//! Runs the generated histories of the simulations.

/// Returns the factor for the number of histories, from `$AXM_SIMULATIONS`.
pub(crate) fn times() -> u64 {
    let times = std::env::var("AXM_SIMULATIONS").ok();
    times.map_or(1, |it| it.parse().expect("a number"))
}

/// Runs a history, and names it if it fails, so that the failure can be repeated.
pub(crate) fn run(name: &str, history: impl FnOnce()) {
    let history = std::panic::AssertUnwindSafe(history);
    if let Err(panic) = std::panic::catch_unwind(history) {
        eprintln!("in the history of {name}");
        std::panic::resume_unwind(panic);
    }
}
