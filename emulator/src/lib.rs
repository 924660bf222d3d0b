//! The OpenAI Uploads API as a local server.
