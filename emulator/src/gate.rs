//! A point at which a request is held until a test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// The server's side of a [`Hold`].
#[derive(Clone, Debug)]
pub struct Gate(Arc<Sides>);

#[derive(Debug)]
struct Sides {
    reached: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

/// A test's side of a gate. Dropping it releases what it holds.
#[must_use = "a gate opens when its handle is dropped"]
#[derive(Debug)]
pub struct Hold(Gate);

impl Gate {
    /// A closed gate and its handle.
    pub fn closed() -> (Self, Hold) {
        let gate = Self(Arc::new(Sides { reached: watch::Sender::new(0), open: watch::Sender::new(false) }));
        (gate.clone(), Hold(gate))
    }

    pub(crate) async fn pass(&self) {
        let mut open = self.0.open.subscribe();
        self.0.reached.send_modify(|reached| *reached += 1);
        // The sender lives in `self`, so this ends with an open gate only.
        let _ = open.wait_for(|open| *open).await;
    }
}

impl Hold {
    /// Waits until a request stands at the gate.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until so many requests stand at the gate, or have.
    pub async fn reached_by(&self, requests: u64) {
        let mut reached = self.0.0.reached.subscribe();
        let _ = reached.wait_for(|reached| *reached >= requests).await;
    }

    /// Whether a request stands at the gate, or has.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        *self.0.0.reached.borrow() > 0
    }

    /// Lets pass what stands there and what comes later.
    pub fn release(&self) {
        self.0.0.open.send_replace(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
