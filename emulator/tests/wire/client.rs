//! A small client for tests: raw requests, so that they can be wrong on purpose.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use upspool_emulator::{Builder, DEFAULT_KEY, Emulator};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Wire {
    pub(crate) emulator: Emulator,
    pub(crate) client: Client,
}

pub(crate) async fn wire() -> Wire {
    wire_of(Emulator::builder()).await
}

pub(crate) async fn wire_of(builder: Builder) -> Wire {
    Wire { emulator: builder.start().await.unwrap(), client: Client::new() }
}

/// A status and the JSON of a body, null if it is not JSON.
pub(crate) type Answered = (u16, Value);

pub(crate) async fn answered(response: Response) -> Answered {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn form(content: &[u8]) -> Form {
    let part = Part::bytes(content.to_vec()).file_name("part").mime_str("application/octet-stream").unwrap();
    Form::new().part("data", part)
}

pub(crate) fn upload_of(bytes: usize) -> Value {
    json!({"filename": "a.jsonl", "purpose": "user_data", "bytes": bytes, "mime_type": "text/jsonl"})
}

impl Wire {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    pub(crate) async fn try_post(&self, path: &str, body: Value) -> reqwest::Result<Response> {
        self.client.post(self.url(path)).bearer_auth(DEFAULT_KEY).json(&body).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answered {
        answered(self.try_post(path, body).await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        answered(self.client.get(self.url(path)).bearer_auth(DEFAULT_KEY).send().await.unwrap()).await
    }

    pub(crate) async fn content(&self, id: &str) -> Vec<u8> {
        let request = self.client.get(self.url(&format!("/files/{id}/content"))).bearer_auth(DEFAULT_KEY);
        request.send().await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub(crate) async fn delete(&self, path: &str) -> Answered {
        answered(self.client.delete(self.url(path)).bearer_auth(DEFAULT_KEY).send().await.unwrap()).await
    }

    /// Creates an Upload and says its id.
    pub(crate) async fn create(&self, bytes: usize) -> String {
        let (status, json) = self.post("/uploads", upload_of(bytes)).await;
        assert_eq!(status, 200, "{json}");
        json["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn try_form(&self, path: &str, form: Form) -> reqwest::Result<Response> {
        self.client.post(self.url(path)).bearer_auth(DEFAULT_KEY).multipart(form).send().await
    }

    pub(crate) async fn try_part(&self, upload: &str, content: &[u8]) -> reqwest::Result<Response> {
        self.try_form(&format!("/uploads/{upload}/parts"), form(content)).await
    }

    pub(crate) async fn part_answer(&self, upload: &str, content: &[u8]) -> Answered {
        answered(self.try_part(upload, content).await.unwrap()).await
    }

    /// Adds a Part and says its id.
    pub(crate) async fn part(&self, upload: &str, content: &[u8]) -> String {
        let (status, json) = self.part_answer(upload, content).await;
        assert_eq!(status, 200, "{json}");
        json["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn complete(&self, upload: &str, parts: &[&str]) -> Answered {
        self.post(&format!("/uploads/{upload}/complete"), json!({"part_ids": parts})).await
    }

    pub(crate) async fn cancel(&self, upload: &str) -> Answered {
        let url = self.url(&format!("/uploads/{upload}/cancel"));
        answered(self.client.post(url).bearer_auth(DEFAULT_KEY).send().await.unwrap()).await
    }

    /// An Upload with one Part of all its bytes: the ids of both.
    pub(crate) async fn filled(&self, content: &[u8]) -> (String, String) {
        let upload = self.create(content.len()).await;
        let part = self.part(&upload, content).await;
        (upload, part)
    }

    /// A whole Upload; the id of its File.
    pub(crate) async fn file(&self, content: &[u8]) -> String {
        let (upload, part) = self.filled(content).await;
        let (status, json) = self.complete(&upload, &[&part]).await;
        assert_eq!(status, 200, "{json}");
        json["file"]["id"].as_str().unwrap().to_owned()
    }
}
