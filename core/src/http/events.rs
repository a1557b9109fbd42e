//! `GET /api/events`: the sessions of a workspace as they change.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};
use schemars::JsonSchema;
use tracing::{Instrument, Span};

use super::endpoints::Access;
use super::operations::Stopping;
use super::response::EVENT_STREAM;
use super::{Admitted, ApiError, App, FeedOf, query_parameter};
use crate::events::HEARTBEAT;
use crate::ports::{Events, Fed, Feed, Ports};
use crate::{AuthMode, Scope, Timestamp, Workspace};

/// How long a stream may be silent.
const SILENCE: TimeDelta = TimeDelta::seconds(15);

/// How often a reader's credentials are looked at again. With what hosts remember of credentials, a
/// revocation by another host is noticed within five seconds.
const CHECK: TimeDelta = TimeDelta::seconds(1);

/// How long credentials are believed while storage does not answer.
const CREDIT: TimeDelta = TimeDelta::seconds(5);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Events as text: each has an `id`, and is a `session` in its state after a change or a `reset`
/// (load the lists again).
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct EventText(#[expect(dead_code, reason = "it stands for its schema")] String);

/// The body of an answer. `F` is what a host's streams take their events from.
#[derive(Debug)]
pub enum Reply<F> {
    /// All of it.
    Whole(Bytes),
    /// Events, which [`App::next_events`] gives one after the other. Only hosts that can stream get
    /// it.
    Events(Box<EventStream<F>>),
}

impl<F> From<Bytes> for Reply<F> {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl<F> Reply<F> {
    /// The whole body, unless it is a stream.
    pub(super) fn whole(self) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Events(_) => None,
        }
    }
}

impl Reply<Infallible> {
    /// The whole body, on a host that cannot stream.
    pub fn into_whole(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Events(stream) => match stream.feed {},
        }
    }
}

/// A stream of events to one reader. It holds no reference to the application, which is asked for
/// each next piece.
#[derive(Debug)]
pub struct EventStream<F> {
    feed: F,
    /// What the reader asked with, for looking at its credentials again.
    parts: Parts,
    workspace: Workspace,
    /// When the credentials were last looked at, and last found good.
    checked: Timestamp,
    confirmed: Timestamp,
    /// When something was last sent.
    spoken: Timestamp,
    /// The request's, which lasts as long as the stream.
    span: Span,
}

/// Checks whether so long has passed since an instant. A clock that was put back counts as well: nobody
/// knows how long it was.
fn has_passed(time: TimeDelta, since: Timestamp, now: Timestamp) -> bool {
    now < since || now - since >= time
}

impl<P: Ports> App<P> {
    pub(super) async fn follow_events(
        &self,
        request: Admitted<'_>,
    ) -> Result<Response<Reply<FeedOf<P>>>, ApiError> {
        if !P::Events::SUPPORTED {
            let message =
                "this host does not stream events: ask GET /api/sessions from time to time";
            return Err(ApiError::not_supported(message));
        }
        let parts = request.parts;
        if parts.extensions.get::<Stopping>().is_some() {
            return Err(ApiError::stopping());
        }
        let reply = match parts.method {
            Method::HEAD => Reply::Whole(Bytes::new()),
            _ => {
                let stream = self.subscribe(parts, request.caller.workspace).await?;
                Reply::Events(Box::new(stream))
            }
        };
        let mut response = Response::new(reply);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Nginx would hold events back.
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }

    async fn subscribe(
        &self,
        parts: &Parts,
        workspace: Workspace,
    ) -> Result<EventStream<FeedOf<P>>, ApiError> {
        let header = parts.headers.get(LAST_EVENT_ID);
        // What is no text is no id either.
        let header = header.map(|id| id.to_str().unwrap_or("-").to_owned());
        let since = header
            .filter(|id| !id.is_empty())
            .or_else(|| query_parameter(&parts.uri, "after").filter(|id| !id.is_empty()));
        // What was missed is read from storage like a list.
        let turn = match since {
            Some(_) => self.turn(&workspace).await?,
            None => None,
        };
        let events = self.ports.events();
        let feed = events.subscribe(&workspace, since.as_deref()).await?;
        drop(turn);
        let now = self.now();
        Ok(EventStream {
            feed,
            parts: parts.clone(),
            workspace,
            checked: now,
            confirmed: now,
            spoken: now,
            span: Span::current(),
        })
    }

    /// Waits for the next piece of a stream; `None` at its end: the host stops, or the reader's
    /// credentials are no longer good. A future that is dropped takes nothing away.
    pub async fn next_events(&self, stream: &mut EventStream<FeedOf<P>>) -> Option<Bytes> {
        let span = stream.span.clone();
        self.next_piece(stream).instrument(span).await
    }

    async fn next_piece(&self, stream: &mut EventStream<FeedOf<P>>) -> Option<Bytes> {
        let is_checked = self.settings.mode != AuthMode::Open
            || stream.parts.headers.contains_key(AUTHORIZATION);
        loop {
            let now = self.now();
            if is_checked && has_passed(CHECK, stream.checked, now) {
                self.confirm(stream).await?;
            }
            if has_passed(SILENCE, stream.spoken, now) {
                stream.spoken = now;
                return Some(HEARTBEAT);
            }
            let mut due = stream.spoken + SILENCE;
            if is_checked {
                due = due.min(stream.checked + CHECK);
            }
            // Not shorter than timers are exact.
            let pause = (due - now).to_std().unwrap_or_default();
            let pause = pause.max(Duration::from_millis(1));
            match self.fed_within(&mut stream.feed, pause).await {
                Some(Fed::Events(events)) => {
                    stream.spoken = self.now();
                    return Some(events);
                }
                Some(Fed::Recheck) => self.confirm(stream).await?,
                Some(Fed::End) => return None,
                None => {}
            }
        }
    }

    /// What comes out of a feed within some time.
    async fn fed_within(&self, feed: &mut FeedOf<P>, time: Duration) -> Option<Fed> {
        let mut next = pin!(feed.next());
        let mut pause = pin!(self.ports.pause(time));
        poll_fn(|context| match next.as_mut().poll(context) {
            Poll::Ready(fed) => Poll::Ready(Some(fed)),
            Poll::Pending => pause.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Looks at the credentials of a stream's reader; `None` when they are no longer good for it.
    async fn confirm(&self, stream: &mut EventStream<FeedOf<P>>) -> Option<()> {
        let access = Access::Scope(Scope::Read);
        let admitted = self.admit(&stream.parts, access).await;
        stream.checked = self.now();
        match admitted {
            Ok(caller) if caller.workspace == stream.workspace => {
                stream.confirmed = stream.checked;
                Some(())
            }
            Err(error) if error.is_unavailable() => {
                let is_over = has_passed(CREDIT, stream.confirmed, stream.checked);
                (!is_over).then_some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_put_back_ends_every_wait() {
        let at = |second| Timestamp::UNIX_EPOCH + TimeDelta::seconds(second);
        for (now, passed) in [(100, false), (114, false), (115, true), (99, true)] {
            assert_eq!(has_passed(SILENCE, at(100), at(now)), passed, "{now}");
        }
    }
}
