use std::time::Duration;

/// Is it alive, is it ready? Shared by the training loop (which reports progress), HTTP and systemd's watchdog.
#[derive(Debug, Clone)]
pub struct Health {}

/// An answer with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub ok: bool,
    /// Why, for people.
    pub why: String,
}

impl Health {
    /// Not ready; live until `stall` passes without progress.
    #[must_use]
    pub fn new(stall: Duration) -> Self {
        let _ = stall;
        todo!()
    }

    /// The training loop went round (trained a batch, or found nothing to do).
    pub fn progress(&self) {
        todo!()
    }

    /// Recovered and reading.
    pub fn ready(&self, ready: bool) {
        let _ = ready;
        todo!()
    }

    /// Progress within `stall`?
    #[must_use]
    pub fn live(&self) -> Verdict {
        todo!()
    }

    /// Live and recovered?
    #[must_use]
    pub fn is_ready(&self) -> Verdict {
        todo!()
    }
}
