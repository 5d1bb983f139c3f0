//! Waiting for a connector, which calls from threads of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nekton::connect::Waker;

/// Wakes this thread when a connector has something.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let bell = self.clone();
        Arc::new(move || {
            *bell.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
            bell.heard.notify_one();
        })
    }
    pub(crate) fn hush(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
    pub(crate) fn wait(&self, patience: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        // Woken or not, everything is looked at again.
        drop(self.heard.wait_timeout_while(rung, patience, |rung| !*rung));
    }
}
