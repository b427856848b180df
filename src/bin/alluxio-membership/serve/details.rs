//! Reads the keys and the lease of one worker from etcd when a client asks for them.
//!
//! Clients wait in one line, so that no number of clients loads etcd.

use std::collections::HashMap;
use std::time::Duration;

use alluxio_membership::error::{Error, Result};
use alluxio_membership::etcd::StoredWorker;
use alluxio_membership::membership::Membership;
use alluxio_membership::worker::WorkerIdentity;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

/// The pause between the starts of two reads: at most ten reads a second, of two requests each.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an answer serves further clients.
const FRESH: Duration = Duration::from_secs(1);
/// The longest time that a client waits.
const LIMIT: Duration = Duration::from_secs(5);

pub struct Details {
    membership: Membership,
    line: Mutex<Line>,
}

struct Line {
    next_read: Instant,
    /// The answers of the last second.
    recent: HashMap<WorkerIdentity, (Instant, StoredWorker)>,
}

/// Why a client gets no details.
pub enum NoDetails {
    /// The workers come from a hosts file.
    NothingStored,
    /// etcd is slow, or many clients ask.
    TooSlow,
    Failed(Error),
}

impl Details {
    pub fn new(membership: Membership) -> Details {
        let line = Line {
            next_read: Instant::now(),
            recent: HashMap::new(),
        };
        Details {
            membership,
            line: Mutex::new(line),
        }
    }

    /// Returns the keys and the lease of a worker as they were at most a second ago.
    pub async fn of(
        &self,
        identity: WorkerIdentity,
    ) -> std::result::Result<StoredWorker, NoDetails> {
        let read = timeout(LIMIT, self.read(identity)).await;
        match read.map_err(|_| NoDetails::TooSlow)? {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) => Err(NoDetails::NothingStored),
            Err(error) => Err(NoDetails::Failed(error)),
        }
    }

    async fn read(&self, identity: WorkerIdentity) -> Result<Option<StoredWorker>> {
        let mut line = self.line.lock().await;
        let now = Instant::now();
        line.recent.retain(|_, (read_at, _)| now < *read_at + FRESH);
        if let Some((_, stored)) = line.recent.get(&identity) {
            return Ok(Some(stored.clone()));
        }
        sleep_until(line.next_read).await;
        let read_at = Instant::now();
        line.next_read = read_at + PAUSE;
        let stored = self.membership.stored_worker(&identity).await?;
        if let Some(stored) = &stored {
            line.recent.insert(identity, (read_at, stored.clone()));
        }
        Ok(stored)
    }
}
