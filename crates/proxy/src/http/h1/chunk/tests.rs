//! Chunks in any split, and chunks that lie.

use super::*;

/// Feeds `input` in pieces of the given sizes (cycled); gives the data, the trailers and what was left over.
fn decode(input: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, Vec<String>, bool, usize), InvalidChunk> {
    let (mut decoder, mut data, mut buffer) = (ChunkDecoder::default(), Vec::new(), Vec::new());
    let (mut rest, mut turn, mut used_in_all) = (input, 0, 0);
    loop {
        let (piece, used) = decoder.next(&buffer)?;
        if let Piece::Data(range) = &piece {
            data.extend_from_slice(&buffer[range.clone()]);
        }
        buffer.drain(..used);
        used_in_all += used;
        match piece {
            Piece::End => break,
            Piece::Starved if rest.is_empty() => break,
            Piece::Starved => {
                let size = sizes[turn % sizes.len()].clamp(1, rest.len());
                buffer.extend_from_slice(&rest[..size]);
                (rest, turn) = (&rest[size..], turn + 1);
            }
            Piece::Data(_) => {}
        }
    }
    let mut trailers = Fields::default();
    if decoder.is_done() {
        decoder.trailers(&mut trailers)?;
    }
    let trailers = trailers
        .iter()
        .map(|(n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
        .collect();
    Ok((data, trailers, decoder.is_done(), used_in_all))
}

#[test]
fn chunked_bodies() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1025));
    let digits = format!("{}1\r\na\r\n0\r\n\r\n", "0".repeat(16));
    let huge = format!("0\r\nx: {}\r\n\r\n", "y".repeat(16 * 1024));
    use InvalidChunk::*;
    for (input, expected) in [
        ("0\r\n\r\n", Ok(("", vec![], true))),
        ("3\r\nabc\r\n0\r\n\r\n", Ok(("abc", vec![], true))),
        ("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET", Ok(("abc0123456789", vec![], true))),
        ("003;a=\"b;c\"\r\nabc\r\n0;x\r\n\r\n", Ok(("abc", vec![], true))),
        ("1\r\na\r\n0\r\nGrpc-Status: 0\r\nx: y\r\n\r\n", Ok(("a", vec!["Grpc-Status: 0", "x: y"], true))),
        ("0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n", Ok(("", vec![], true))),
        ("3\r\nab", Ok(("ab", vec![], false))),
        ("", Ok(("", vec![], false))),
        ("\r\n", Err(Size)),
        ("x\r\n", Err(Size)),
        ("-1\r\n", Err(Size)),
        ("0x1\r\n", Err(Size)),
        (" 1\r\n", Err(Size)),
        ("1 \r\na\r\n", Err(Size)),
        ("1\na\r\n", Err(Size)),
        ("11111111111111111\r\n", Err(Size)),
        (&digits, Err(Size)),
        ("1;a\nb\r\n", Err(LineEnd)),
        ("1\rX", Err(LineEnd)),
        ("1\r\nab\r\n", Err(LineEnd)),
        ("1\r\na\n0\r\n\r\n", Err(LineEnd)),
        ("1\r\na\rX", Err(LineEnd)),
        ("1;\0\r\n", Err(Extension)),
        (&long, Err(Extension)),
        ("0\r\nx y: z\r\n\r\n", Err(Trailers)),
        ("0\r\nx: y\n\r\n", Err(LineEnd)),
        ("0\r\n\n", Err(LineEnd)),
        (&huge, Err(Trailers)),
    ] {
        let seen =
            decode(input.as_bytes(), &[usize::MAX]).map(|(data, trailers, done, _)| (data, trailers, done));
        let expected = expected.map(|(data, trailers, done): (&str, Vec<&str>, bool)| {
            (data.as_bytes().to_vec(), trailers.into_iter().map(str::to_owned).collect(), done)
        });
        assert_eq!(seen, expected, "{:?}", &input[..input.len().min(60)]);
    }
}

#[test]
fn what_follows_a_body_is_left_alone() {
    let input = b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    assert_eq!(decode(input, &[usize::MAX]).map(|seen| seen.3), Ok(11));
}

#[test]
fn extensions_may_not_add_up() {
    let body = "1;xxxxxxxxxxxxxxxx\r\na\r\n".repeat(2000);
    assert_eq!(decode(body.as_bytes(), &[usize::MAX]).map(|_| ()), Err(InvalidChunk::Extension));
}

#[test]
fn any_bytes_decode_alike_however_they_are_split() {
    const WORDS: [&[u8]; 14] = [
        b"0\r\n",
        b"1\r\na\r\n",
        b"3\r\nabc\r\n",
        b"\r\n",
        b"5;x=y\r\nhello\r\n",
        b"f",
        b"\r",
        b"\n",
        b"x: y\r\n",
        b"0\r\n\r\n",
        b";",
        b"a",
        b"2\r\n",
        b"zz\r\n",
    ];
    bolero::check!().with_iterations(20_000).with_type::<(Vec<u8>, u8)>().for_each(|(seed, size)| {
        let worded: Vec<u8> =
            seed.iter().flat_map(|&b| WORDS[b as usize % WORDS.len()].iter().copied()).collect();
        for input in [seed, &worded] {
            let whole = decode(input, &[usize::MAX]);
            let split = decode(input, &[1, usize::from(*size) % 7 + 1]);
            match (whole, split) {
                (Ok(whole), Ok(split)) => assert_eq!(whole, split, "{}", input.escape_ascii()),
                (Err(whole), Err(split)) => assert_eq!(whole, split, "{}", input.escape_ascii()),
                (whole, split) => panic!("{whole:?} or {split:?} for {}", input.escape_ascii()),
            }
        }
    });
}
