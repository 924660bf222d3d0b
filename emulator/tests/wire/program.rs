//! The binary: its options and its controls over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::client::{answered, upload_of};

struct Program {
    child: Child,
    base: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(options: &[&str]) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_upspool-emulator"))
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut base = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut base).unwrap();
    Program { child, base: base.trim().to_owned() }
}

#[tokio::test]
async fn the_program_serves_by_its_options_and_is_controlled_over_http() {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    write!(script, "[[fault]]\noperation = \"create\"\nnth = 1\naction.answer = {{ status = 500 }}\n")
        .unwrap();
    let options = ["--api-key", "K", "--expires-in", "60s", "--script", script.path().to_str().unwrap()];
    let program = start(&options);
    let client = reqwest::Client::new();
    let create = async || {
        let request = client.post(format!("{}/uploads", program.base)).bearer_auth("K").json(&upload_of(1));
        answered(request.send().await.unwrap()).await
    };
    let control = format!("{}/_emulator", program.base.trim_end_matches("/v1"));
    let ask = async |name: &str| -> Value {
        client.get(format!("{control}/{name}")).send().await.unwrap().json().await.unwrap()
    };
    let tell = async |name: &str, body: String| {
        let response = client.post(format!("{control}/{name}")).body(body).send().await.unwrap();
        answered(response).await
    };
    assert_eq!(create().await.0, 500);
    let (_, upload) = create().await;
    assert_eq!(upload["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 60);
    assert_eq!(ask("uploads").await["uploads"][0]["status"], "pending");
    assert_eq!(tell("clock", json!({"advance": "1h"}).to_string()).await.0, 200);
    assert_eq!(ask("uploads").await["uploads"][0]["status"], "expired");
    assert_eq!(ask("requests").await["requests"].as_array().unwrap().len(), 2);
    assert_eq!(ask("files").await["files"], json!([]));

    let more = "[variants]\nerrors = \"empty\"\n[[fault]]\naction.answer = { status = 418 }\n";
    assert_eq!(tell("script", more.to_owned()).await, (200, json!({"added": 1})));
    assert_eq!(create().await, (418, Value::Null));
    let more = json!({"fault": [{"operation": "create", "nth": 1, "action": {"answer": {"status": 402}}}]});
    tell("reset", String::new()).await;
    assert_eq!(tell("script", more.to_string()).await.0, 200);
    assert_eq!(create().await.0, 402);
    assert_eq!(ask("requests").await["requests"].as_array().unwrap().len(), 1);
    assert_eq!(ask("variants").await["errors"], "empty");
    assert_eq!(tell("victim", json!({"pid": null}).to_string()).await.0, 200);
    assert_eq!(tell("script", "nonsense".to_owned()).await.0, 400);
    assert_eq!(tell("nothing", String::new()).await.0, 404);
}

#[test]
fn a_script_that_is_wrong_is_said_so() {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    write!(script, "[[fault]]\noperation = \"put\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_upspool-emulator"))
        .arg("--script")
        .arg(script.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("operation"));
}
