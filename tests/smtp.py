"""A real SMTP server for the tests: aiosmtpd on loopback, which keeps each mail as a file.

    smtp.py --dir DIR --port PORT [--tls starttls|wrapped --ca CA.pem] [--user USER --password PASSWORD]

Prints `ready`. DIR/mood changes while it runs: `well`, `busy` (451 to everything), `silent` (takes a mail and never
says so), `refuse ADDRESS` (550 to that recipient). With --tls it makes a CA of its own, and writes it to CA.pem.
"""

import argparse
import asyncio
import datetime
import ipaddress
import logging
import pathlib
import ssl
import sys
import tempfile
import warnings

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Keeper:
    def __init__(self, directory):
        self.dir = directory
        self.count = 0

    def mood(self):
        try:
            return (self.dir / "mood").read_text().strip()
        except FileNotFoundError:
            return "well"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.mood() == f"refuse {address}":
            return "550 5.1.1 nobody of that name\x1b[31m"
        if self.mood() == "busy":
            return "451 4.3.0 later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        encrypted = server.transport.get_extra_info("sslcontext") is not None
        head = f"X-From: {envelope.mail_from}\nX-To: {' '.join(envelope.rcpt_tos)}\nX-Tls: {encrypted}\n"
        mail = head.encode() + envelope.content.replace(b"\r\n", b"\n")
        fresh = self.dir / f".{self.count:04}"
        fresh.write_bytes(mail)
        if self.mood() == "silent":
            fresh.unlink()
            await asyncio.sleep(3600)
        fresh.rename(self.dir / f"{self.count:04}.eml")
        return "250 OK"


def certificate(ca_file):
    """A CA, and a certificate of it for 127.0.0.1: a context for a server."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)

    def make(name, issuer, signer, key, extensions):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day)
        builder = builder.not_valid_after(now + day)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signer, hashes.SHA256())

    def called(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = make(called("lab CA"), called("lab CA"), ca_key, ca_key, [x509.BasicConstraints(ca=True, path_length=None)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = make(called("mail"), called("lab CA"), ca_key, key, [address])
    pathlib.Path(ca_file).write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(leaf.public_bytes(encoding) + private)
        chain.flush()
        context.load_cert_chain(chain.name)
    return context


async def serve(options):
    # Of what the tests do on purpose.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    keeper = Keeper(pathlib.Path(options.dir))
    context = certificate(options.ca) if options.tls else None

    def allowed(server, session, envelope, mechanism, data):
        known = (data.login.decode(), data.password.decode()) == (options.user, options.password)
        return AuthResult(success=known)

    def protocol():
        asked = {"authenticator": allowed, "auth_required": True} if options.user else {}
        if options.tls == "starttls":
            asked |= {"tls_context": context, "require_starttls": bool(options.user)}
        if options.tls == "wrapped":
            asked |= {"auth_require_tls": False}
        return SMTP(keeper, hostname="lab", **asked)

    wrapped = context if options.tls == "wrapped" else None
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", options.port, ssl=wrapped)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ["dir", "tls", "ca", "user", "password"]:
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    asyncio.run(serve(parser.parse_args()))
