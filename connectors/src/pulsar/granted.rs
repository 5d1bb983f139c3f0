//! A producer or consumer at a broker. It is closed there when nobody has it any more.

use std::sync::Arc;
use std::time::Duration;

use nekton_engine::Result;
use pulsar::message::proto::{self, BaseCommand};
use tokio::sync::mpsc;

use super::connection::{Connection, Heard, Outbox, command};

/// How long who ends waits until the broker has heard of it.
const LEAVING: Duration = Duration::from_secs(2);

/// A producer or consumer that is asked for or granted, and what it hears.
pub(super) struct Granted<H> {
    pub(super) connection: Arc<Connection>,
    pub(super) id: u64,
    pub(super) heard: H,
    /// The command that closes it, from its number and that of the request.
    closing: fn(u64, u64) -> BaseCommand,
    closed: bool,
}

impl Granted<mpsc::UnboundedReceiver<Heard>> {
    /// A producer, which the broker is still to be asked for.
    pub(super) fn producer(connection: Arc<Connection>) -> Self {
        let id = connection.next_id();
        let closing = |producer_id, request_id| {
            let close = proto::CommandCloseProducer { producer_id, request_id };
            command!(CloseProducer, close_producer: close)
        };
        Granted { heard: connection.hear_producer(id), connection, id, closing, closed: false }
    }
}

impl Granted<Outbox> {
    /// A consumer, which the broker is still to be asked for.
    pub(super) fn consumer(connection: Arc<Connection>) -> Self {
        let id = connection.next_id();
        let closing = |consumer_id, request_id| {
            let close = proto::CommandCloseConsumer { consumer_id, request_id };
            command!(CloseConsumer, close_consumer: close)
        };
        Granted { heard: connection.hear_consumer(id), connection, id, closing, closed: false }
    }
}

impl<H> Granted<H> {
    /// Sends a request, which is made with its number, and waits for its answer; the broker's refusal is an
    /// error about `what`.
    pub(super) async fn ask(
        &self,
        what: &str,
        request: impl FnOnce(u64) -> BaseCommand,
    ) -> Result<BaseCommand> {
        let number = self.connection.next_id();
        self.connection.ask(number, &request(number), what).await
    }

    /// Closes it, and waits until the broker has heard that, and all before.
    pub(super) async fn close(&mut self) {
        self.closed = true;
        // Where there is no answer, the connection is lost, and this with it.
        let _ = self.ask("closing", |number| (self.closing)(self.id, number)).await;
    }

    /// The same, without waiting for long.
    pub(super) async fn leave(&mut self) {
        let _ = tokio::time::timeout(LEAVING, self.close()).await;
    }
}

impl<H> Drop for Granted<H> {
    fn drop(&mut self) {
        self.connection.forget(self.id);
        // Others may use the connection: were this left open on it, we would turn ourselves away.
        if !self.closed {
            self.connection.tell(&(self.closing)(self.id, self.connection.next_id()));
        }
    }
}
