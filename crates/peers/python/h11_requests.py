"""Reads connections (JSON: a list of hexadecimal texts) and writes what h11 makes of each: its complete requests."""

import json
import sys

import h11


def requests(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found, current = [], None
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Request):
                current = [event.method.decode(), event.target.decode(), b""]
            elif isinstance(event, h11.Data):
                current[2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append([current[0], current[1], current[2].hex()])
                status = h11.Response(status_code=200, headers=[("content-length", "0")])
                connection.send(status)
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    break
                connection.start_next_cycle()
    except h11.ProtocolError as error:
        return {"requests": found, "error": str(error)}
    return {"requests": found, "error": None}


json.dump([requests(bytes.fromhex(text)) for text in json.load(sys.stdin)], sys.stdout)
