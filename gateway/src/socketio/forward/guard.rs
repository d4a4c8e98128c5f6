//! Who may come in by the door: other gateways, with requests of sessions.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};

use crate::api::DoorKey;

/// Carries the door's key.
pub(super) const KEY: HeaderName = HeaderName::from_static("x-fanfare-door-key");
/// What the door says to others. No answer to a client is of this kind, so that whoever forwards
/// to an address that is another's by now can tell.
pub(super) const NOT_HERE: StatusCode = StatusCode::MISDIRECTED_REQUEST;

/// Marks a request that another gateway has forwarded: it is not forwarded again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forwarded;

/// The same routes, for gateways that have the key.
pub(crate) fn door(key: DoorKey, routes: Router) -> Router {
    routes.layer(middleware::from_fn_with_state(key, check))
}

async fn check(State(key): State<DoorKey>, mut request: Request, next: Next) -> Response {
    if !is_admitted(&key, request.headers()) {
        return NOT_HERE.into_response();
    }
    request.headers_mut().remove(KEY);
    request.extensions_mut().insert(Forwarded);
    next.run(request).await
}

fn is_admitted(key: &DoorKey, headers: &HeaderMap) -> bool {
    headers.get(KEY).is_some_and(|shown| key.admits(shown.as_bytes()))
}

pub(in crate::socketio) fn is_forwarded(request: &Request) -> bool {
    request.extensions().get::<Forwarded>().is_some()
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn seen(request: Request) -> String {
        format!("{} {}", is_forwarded(&request), request.headers().contains_key(KEY))
    }

    async fn ask(router: &Router, path: &str, key: Option<&str>) -> (StatusCode, String) {
        let mut request = Request::builder().uri(path);
        if let Some(key) = key {
            request = request.header(KEY, key);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_who_has_the_key_comes_in_and_is_marked() {
        let (key, other) = (DoorKey::random(), DoorKey::random());
        let routes = Router::new().route("/socket.io", get(seen));
        let door = door(key.clone(), routes.clone());
        let admitted = (StatusCode::OK, "true false".to_owned());
        assert_eq!(ask(&door, "/socket.io", Some(key.reveal())).await, admitted);
        for shown in [None, Some(""), Some(other.reveal()), Some(&key.reveal()[1..])] {
            assert_eq!(ask(&door, "/socket.io", shown).await, (NOT_HERE, String::new()));
            assert_eq!(ask(&door, "/v1/stats", shown).await, (NOT_HERE, String::new()));
        }
        // A client that sends the header elsewhere gains nothing by it.
        let public = (StatusCode::OK, "false true".to_owned());
        assert_eq!(ask(&routes, "/socket.io", Some(key.reveal())).await, public);
    }
}
