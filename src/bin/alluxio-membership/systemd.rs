//! Notifies systemd about the state of a command that runs as a service.

use sd_notify::NotifyState;

/// Has no effect if systemd did not start the program.
pub fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("Failed to notify systemd: {error}");
    }
}
