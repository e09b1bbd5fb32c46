//! Identity to certificate and back: keys, requests, signing, trust, verification, rotation times. No sockets.
