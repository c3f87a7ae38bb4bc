//! Work orders over HTTP: what a robot asks, as JSON. Must not know how a request is read.
//!
//! `GET /orders`, `GET /orders/ID`; `POST /orders/ID/claim {by, for_s}`, `/progress {by, percent, note}`, `/done {by, note, drives}`, `/release {by}`.

use std::path::Path;

use lavatube_node::clock;
use lavatube_node::http::{Request, Response};
use lavatube_node::orders::{Board, Book, BookError, Entry, Seen};
use serde_json::{Value, json};

use super::{answer, entry_to_json, listed, to_json};

/// Answers a request about the orders of the vault in `folder`, which is as `board` shows.
pub(in crate::verbs::vault) fn answer_to(request: &Request, folder: &Path, board: &Board, afr: f64) -> Response {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let Some(seen) = board.seen() else { return error(503, "the vault has not been looked at yet: ask again") };
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["orders"]) => {
            let book = Book::read(folder);
            respond(200, &answer(&seen, &listed(&seen, &book, afr), &book, clock::wall_now().s))
        }
        ("GET", ["orders", id]) => one(id, &seen, folder, afr),
        ("POST", ["orders", id, verb @ ("claim" | "progress" | "done" | "release")]) => {
            let body: Value = match serde_json::from_slice(&request.body) {
                Ok(body @ Value::Object(_)) => body,
                _ => return error(400, "the body is a JSON object"),
            };
            change(id, verb, &body, &seen, folder)
        }
        (_, ["orders"] | ["orders", _] | ["orders", _, "claim" | "progress" | "done" | "release"]) => {
            error(405, "GET reads, POST claims, tells progress, says done and releases")
        }
        _ => error(404, "there are /orders, /orders/ID and /orders/ID/claim, progress, done, release"),
    }
}

/// An order that there is a reason for, or how the last one of that name ended.
fn one(id: &str, seen: &Seen, folder: &Path, afr: f64) -> Response {
    let (book, now) = (Book::read(folder), clock::wall_now().s);
    if let Some(found) = listed(seen, &book, afr).iter().find(|listed| listed.order.id == id) {
        return respond(200, &to_json(seen, found, &book, now));
    }
    match book.entry(id, now) {
        Some(entry) => respond(200, &entry_to_json(entry)),
        None => error(404, "there is no such order"),
    }
}

fn change(id: &str, verb: &str, body: &Value, seen: &Seen, folder: &Path) -> Response {
    let text = |field: &str| body[field].as_str().unwrap_or_default();
    let (by, note) = (text("by"), text("note"));
    let changed: Result<Option<Entry>, BookError> = match verb {
        "claim" => {
            let known = lavatube_node::orders::list(seen, &Book::read(folder)).iter().any(|order| order.id == id);
            if !known {
                return error(404, "there is no such order now");
            }
            let for_s = body["for_s"].as_i64().unwrap_or(CLAIM_S);
            Book::change(folder, |book, now| book.claim(id, by, for_s, now)).map(Some)
        }
        "progress" => {
            let percent = body["percent"].as_u64().and_then(|p| u8::try_from(p).ok()).unwrap_or(0);
            Book::change(folder, |book, now| book.progress(id, by, percent, note, now)).map(Some)
        }
        "done" => {
            let drives = body["drives"].as_array().cloned().unwrap_or_default();
            let drives: Vec<String> = drives.iter().filter_map(|d| d.as_str().map(str::to_owned)).collect();
            Book::change(folder, |book, now| book.done(id, by, note, &drives, now)).map(Some)
        }
        _ => Book::change(folder, |book, now| book.release(id, by, now)).map(|()| None),
    };
    match changed {
        // What is told is looked at first.
        Ok(Some(entry)) => respond(if verb == "done" { 202 } else { 200 }, &entry_to_json(&entry)),
        Ok(None) => respond(200, &json!({ "id": id, "state": "open", "claim": null })),
        Err(e) => {
            let status = match e {
                BookError::NoSuch(_) => 404,
                BookError::Taken { .. } | BookError::NotYours { .. } | BookError::Told(_) => 409,
                BookError::Text(_) => 400,
                BookError::Lock(_) | BookError::Io(_) => 503,
            };
            error(status, &e.to_string())
        }
    }
}

fn respond(status: u16, value: &Value) -> Response {
    Response { status, body: value.to_string() }
}

fn error(status: u16, why: &str) -> Response {
    respond(status, &json!({ "error": why }))
}

/// A claim is for so long unless somebody says otherwise.
const CLAIM_S: i64 = 3600;
