//! Priority and fairness: which requests run now, which wait, and which are refused,
//! so that one noisy client starves neither the nodes' heartbeats nor other clients
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>).
//!
//! ```text
//! request -> matching (schema, flow) -> level: a seat at once | its fair queues | 429
//!                ^                        ^
//! keep: FlowSchemas,                   balance: seats lent between levels,
//! PriorityLevelConfigurations          only while some level lacks them
//! ```
//!
//! A request holds its seats while its answer is made; sending it is the client's own
//! time. Watches hold one until they have begun; exec, logs and the like take none.

mod balance;
mod bootstrap;
mod config;
mod dump;
mod keep;
mod level;
mod matching;
mod queues;
mod shares;
mod width;

pub(crate) use balance::Row;
pub(crate) use config::Flow;
pub(crate) use level::Refusal;

use crate::body::ApiBody;
use crate::registry::prefix_of;
use crate::request::{QueryOptions, RequestInfo};
use crate::server::ApiServer;
use config::Counted;
use http::{HeaderName, HeaderValue, Response, header};
use level::Seat;
use skiff_access::UserInfo;
use tokio::sync::SemaphorePermit;
use width::ListShape;

const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Lists from here on keep a processor busy for long enough that others would notice.
const HEAVY_SEATS: u32 = 3;

/// What a request that runs holds, and what its answer tells.
pub(crate) struct Entered<'a> {
    _running: Option<Counted>,
    _seat: Option<Seat>,
    _processor: Option<SemaphorePermit<'a>>,
    uids: Option<(HeaderValue, HeaderValue)>,
}

impl Entered<'_> {
    /// Says in the answer which schema and level it came by.
    pub fn mark(&self, response: &mut Response<ApiBody>) {
        mark(response, self.uids.as_ref());
    }
}

fn mark(response: &mut Response<ApiBody>, uids: Option<&(HeaderValue, HeaderValue)>) {
    if let Some((schema, level)) = uids {
        response.headers_mut().insert(SCHEMA_HEADER, schema.clone());
        response.headers_mut().insert(LEVEL_HEADER, level.clone());
    }
}

/// Requests that last as long as the client wants, as upstream tells them.
pub(crate) fn is_long_running(info: &RequestInfo) -> bool {
    info.is_resource
        && (info.verb == "watch"
            || matches!(
                info.subresource.as_str(),
                "attach" | "exec" | "proxy" | "log" | "portforward"
            ))
}

impl ApiServer {
    /// Waits until the request may run; or answers it.
    pub(crate) async fn enter(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        options: &QueryOptions,
    ) -> Result<Entered<'_>, Response<ApiBody>> {
        if is_long_running(info) && info.verb != "watch" {
            return Ok(Entered {
                _running: None,
                _seat: None,
                _processor: None,
                uids: None,
            });
        }
        let place = self.flow.place(user, info);
        let width = if info.verb == "list" && !place.level.exempt {
            width::seats(self.list_shape(info, options), place.nominal)
        } else {
            1
        };
        let waiting = place.count_waiting();
        let acquired = place.level.acquire(place.flow, width).await;
        drop(waiting);
        let seat = match acquired {
            Ok(seat) => seat,
            Err(refusal) => {
                place.count_refused(refusal);
                let mut response = too_many_requests();
                mark(&mut response, Some(&place.uids()));
                return Err(response);
            }
        };
        let running = place.count_dispatched();
        let processor = if width >= HEAVY_SEATS && !place.level.exempt {
            // Whoever else is ready to run goes first; then as many as there are processors.
            tokio::task::yield_now().await;
            self.flow.processors.acquire().await.ok()
        } else {
            None
        };
        Ok(Entered {
            _running: Some(running),
            _seat: Some(seat),
            _processor: processor,
            uids: Some(place.uids()),
        })
    }

    fn list_shape(&self, info: &RequestInfo, options: &QueryOptions) -> ListShape {
        let catalog = self.catalog();
        let Some(kind) = catalog.resource(&info.group, &info.resource) else {
            return ListShape::default();
        };
        ListShape {
            stored: self.store.snapshot().count(&prefix_of(kind, &info.namespace)),
            limit: options.limit,
            selects: !options.label_selector.is_empty() || !options.field_selector.is_empty(),
        }
    }
}

/// Seconds after which a refused client is to try again.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

/// Makes the answer of a refused request; text, as upstream.
pub(crate) fn too_many_requests() -> Response<ApiBody> {
    let mut response = Response::new(ApiBody::full("Too many requests, please try again later.\n"));
    *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
