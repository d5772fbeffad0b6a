"""Asks the peers when acks stay away: to carry the heartbeat to the manager, or to say that they hear nothing either (R2, R8)."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import grpc
import structlog

from vmha.agent.identity import Identity
from vmha.agent.lease_events import AttestReceived, PeerAsked
from vmha.agent.peers import Peers
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import seconds
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import heartbeat_pb2

NONCE_BYTES: Final = 16
_log = structlog.get_logger("vmha.agent")


class Relay:
    """Puts the same heartbeat before every voter at once; at most one question to each is under way.

    The lease asks for it when acks stay away. As long as they then come through peers only, it is done in the heartbeats' rhythm:
    the manager counts a host as in contact only while the echoes of its acks keep coming (R5).
    """

    def __init__(self, identity: Identity, peers: Peers) -> None:
        self._identity = identity
        self._keeper = identity.keeper
        self._peers = peers
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._again: asyncio.TimerHandle | None = None

    def ask(self, hosts: tuple[str, ...]) -> None:
        """Ask these hosts now."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        beat = self._identity.heartbeat()
        if beat is None:
            return
        members = self._identity.members
        for host_id in hosts:
            target = members.get(host_id, "")
            if target:
                self._start(host_id, target, beat)

    async def close(self) -> None:
        """Ask no more."""
        if self._again is not None:
            self._again.cancel()
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, host_id: str, target: str, beat: heartbeat_pb2.Heartbeat) -> None:
        older = self._asking.pop(host_id, None)
        if older is not None:
            older.cancel()
        task = self._asking[host_id] = asyncio.create_task(self._ask(host_id, target, beat), name=f"relay through {host_id}")
        task.add_done_callback(lambda done: self._ended(host_id, done))

    def _ended(self, host_id: str, task: asyncio.Task[None]) -> None:
        if self._asking.get(host_id) is task:
            del self._asking[host_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("relay_broken", peer=host_id, exc_info=error)

    async def _ask(self, host_id: str, target: str, beat: heartbeat_pb2.Heartbeat) -> None:
        # A connection for each question: an old one would first wait out its own backoff.
        connection = self._peers.connect(host_id, target)
        request = pb.RelayHeartbeatRequest(
            cluster_id=self._identity.state.cluster_id, heartbeat=beat, request_nonce=secrets.token_hex(NONCE_BYTES)
        )
        within_s = self._identity.terms.request_interval_s
        try:
            self._keeper.tell(PeerAsked(host_id=host_id, request_nonce=request.request_nonce))
            answer = await connection.stub.RelayHeartbeat(request, timeout=within_s)
            self._take(host_id, answer)
        except grpc.aio.AioRpcError as error:
            self._identity.metrics.relays.labels("failed").inc()
            _log.debug("relay_failed", peer=host_id, reason=from_rpc_error(error).reason)
        finally:
            await connection.close()

    def _take(self, host_id: str, answer: pb.RelayHeartbeatResponse) -> None:
        self._keeper.look()
        kind = answer.WhichOneof("answer") or "neither"
        self._identity.metrics.relays.labels(kind).inc()
        if kind == "ack":
            if self._identity.accept(answer.ack, relayed=True):
                self._keep_the_rhythm()
        elif kind == "attest":
            self._attested(host_id, answer.attest)

    def _keep_the_rhythm(self) -> None:
        def again() -> None:
            self._again = None
            voters = tuple(host_id for host_id in self._identity.terms.voters if host_id != self._identity.state.host_id)
            if self._identity.is_relayed:
                self.ask(voters)

        if self._again is None:
            pause_s = self._identity.terms.request_interval_s
            self._again = asyncio.get_running_loop().call_later(pause_s, again)

    def _attested(self, host_id: str, attest: pb.Attest) -> None:
        if attest.attester_host_id != host_id:
            # Somebody else answers at this address: nobody's word (R24). Without TLS this is all that tells.
            _log.warning("attest_of_another_host", asked=host_id, answered=attest.attester_host_id)
            return
        self._keeper.tell(
            AttestReceived(
                host_id=host_id,
                cluster_id=attest.cluster_id,
                incarnation=attest.incarnation,
                request_nonce=attest.request_nonce,
                no_ack_age_s=seconds(attest.no_ack_age),
            )
        )
