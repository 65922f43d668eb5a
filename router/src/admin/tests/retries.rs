//! What is parked, as clients of the door ask for it.

use serde_json::json;

use super::{ask, open};

#[test]
fn what_is_parked_is_listed_and_what_is_asked_wrongly_is_named() {
    let open = open();
    let get = |path: &str| ask(open.address, "GET", path, &[], None);
    assert_eq!(get("/v1/retries").body, json!({ "lanes": [], "notes": [] }));
    assert_eq!(get("/v1/routes/route/retries?limit=200").body, json!({ "records": [], "parked": 0, "notes": [] }));
    for (path, error, words) in [
        ("/v1/routes/rout/retries", (404, "no-route"), "is it route?"),
        ("/v1/routes/route/retries?limit=201", (422, "malformed"), "from 1 to 200"),
        ("/v1/routes/route/retries?limit=0", (400, "malformed"), "nonzero"),
        ("/v1/routes/route/retries?limits=1", (400, "malformed"), "unknown field `limits`"),
    ] {
        let answer = get(path);
        assert_eq!(answer.error(), error, "{path}: {}", answer.body);
        assert!(answer.body["message"].as_str().unwrap().contains(words), "{path}: {}", answer.body);
    }
}
