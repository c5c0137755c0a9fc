// Take a token of a budget before each piece of work:   rustc client.rs && ./client stripe 3
use std::io::{Read, Write};
use std::{env, net::TcpStream, process::exit, thread::sleep, time::Duration};

/// Returns when it has the tokens, or an error that asking again does not mend.
fn acquire(budget: &str, cost: f64) -> Result<(), String> {
    let server = env::var("NEXUS_HTTP").unwrap_or("http://127.0.0.1:8080".into());
    let server = server.trim_end_matches('/');
    let host = server.trim_start_matches("http://");
    let token = env::var("NEXUS_TOKEN").map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let body = format!(r#"{{"budget":"{budget}","cost":{cost},"producer_id":"rust"}}"#); // a name has nothing to escape
    let request = format!(
        "POST /v1/acquire HTTP/1.1\r\nHost: {host}\r\n{token}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    loop {
        let mut answer = String::new();
        TcpStream::connect(host)
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(60)))?; // longer than the server lets a caller wait
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut answer)
            })
            .map_err(|error| format!("The server at {server} does not answer: {error}"))?;
        let (header, said) = answer.split_once("\r\n\r\n").ok_or(format!("The server at {server} sent no answer."))?;
        match header.split(' ').nth(1) {
            Some("200") => return Ok(()),
            Some("429" | "503") => (),
            _ => return Err(format!("The server refused {cost} tokens of {budget}: {said}")),
        }
        let fields = header.lines().filter_map(|line| line.split_once(": "));
        let asked = fields.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after")).find_map(|(_, it)| it.parse().ok());
        let seconds = asked.unwrap_or(1).max(1);
        eprintln!("{said}\nAsking again in {seconds} s.");
        sleep(Duration::from_secs(seconds));
    }
}

fn main() {
    let given: Vec<String> = env::args().collect();
    let (Some(budget), Some(Ok(count))) = (given.get(1), given.get(2).map(|count| count.parse::<u32>())) else {
        eprintln!("Give the name of a budget and the number of calls, as in: client stripe 3");
        exit(2);
    };
    for i in 1..=count {
        if let Err(error) = acquire(budget, 1.0) {
            eprintln!("{error}");
            exit(1);
        }
        println!("call {i}"); // the work
    }
}
