//! Server-sent events: the frames of a client as the body of an answer that does not end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};

use crate::hub::Watching;

/// Each frame as an event without a name. Frames are one line, as they are JSON without blanks.
pub(crate) struct Events(Watching);

impl Events {
    pub(crate) fn new(watching: Watching) -> Self {
        Events(watching)
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.frames.poll_recv(context).map(|frame| {
            frame.map(|frame| {
                let mut event = BytesMut::with_capacity(frame.len() + 8);
                event.extend_from_slice(b"data: ");
                event.extend_from_slice(frame.as_bytes());
                event.extend_from_slice(b"\n\n");
                Ok(Frame::data(event.freeze()))
            })
        })
    }
}
