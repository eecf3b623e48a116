//! When to end early: whoever waits is woken.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Whether it was set before.
    pub fn set(&self) -> bool {
        let (is_set, changed) = &*self.0;
        let was_set = mem::replace(&mut *is_set.lock().expect("nobody panics with it"), true);
        changed.notify_all();
        was_set
    }

    pub fn is_set(&self) -> bool {
        *self.0.0.lock().expect("nobody panics with it")
    }

    /// Waits for so long, or until it is set; whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let (is_set, changed) = &*self.0;
        let guard = is_set.lock().expect("nobody panics with it");
        let waited = changed.wait_timeout_while(guard, time, |is_set| !*is_set);
        *waited.expect("nobody panics with it").0
    }
}
