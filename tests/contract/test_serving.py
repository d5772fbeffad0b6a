"""What a server with all services shows to grpcurl and to probes."""

from __future__ import annotations

from typing import Any, cast

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.server import Server, Servicer
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import (
    cluster_service_pb2_grpc,
    event_service_pb2_grpc,
    manager_service_pb2_grpc,
)

SERVICES = ["vmha.v1.ManagerService", "vmha.v1.ClusterService", "vmha.v1.EventService"]


def server(*, reflection: bool = True) -> Server:
    manager, cluster, event = manager_service_pb2_grpc, cluster_service_pb2_grpc, event_service_pb2_grpc
    servicers: list[Servicer] = [
        (manager.add_ManagerServiceServicer_to_server, cast(Any, manager.ManagerServiceServicer)(), SERVICES[0]),
        (cluster.add_ClusterServiceServicer_to_server, cast(Any, cluster.ClusterServiceServicer)(), SERVICES[1]),
        (event.add_EventServiceServicer_to_server, cast(Any, event.EventServiceServicer)(), SERVICES[2]),
    ]
    return Server(servicers, "127.0.0.1:0", reflection=reflection)


async def reflect(port: int, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = cast(Any, reflection_pb2_grpc.ServerReflectionStub)(channel)
        answers: list[reflection_pb2.ServerReflectionResponse] = [
            answer async for answer in stub.ServerReflectionInfo(iter([request]), timeout=5)
        ]
    assert len(answers) == 1
    return answers[0]


async def test_reflection_lists_all_services() -> None:
    """grpcurl needs no proto files."""
    running = server()
    port = await running.start()
    answer = await reflect(port, reflection_pb2.ServerReflectionRequest(list_services=""))
    await running.stop(0)

    names = {service.name for service in answer.list_services_response.service}
    assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_reflection_describes_a_service() -> None:
    """The whole file comes, with its messages."""
    running = server()
    port = await running.start()
    answer = await reflect(port, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[1]))
    await running.stop(0)

    file = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "vmha/v1/cluster_service.proto"


async def test_reflection_can_be_switched_off() -> None:
    """A server without reflection answers UNIMPLEMENTED."""
    running = server(reflection=False)
    port = await running.start()
    try:
        await reflect(port, reflection_pb2.ServerReflectionRequest(list_services=""))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    else:
        raise AssertionError("reflection answered")
    finally:
        await running.stop(0)


async def test_health_knows_each_service() -> None:
    """The process and each service have a status; what is not served is NOT_FOUND."""
    running = server()
    port = await running.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = cast(Any, health_pb2_grpc.HealthStub)(channel)
        for name in ("", *SERVICES):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        try:
            await stub.Check(health_pb2.HealthCheckRequest(service="vmha.v1.Nothing"), timeout=5)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("an unknown service has a status")
    await running.stop(0)


async def test_a_method_that_is_not_written_yet_says_so_politely() -> None:
    """The generated servicer's NotImplementedError arrives as UNIMPLEMENTED with a reason."""
    running = server()
    port = await running.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        try:
            await cluster_service_pb2_grpc.ClusterServiceStub(channel).GetCluster(cs.GetClusterRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            assert from_rpc_error(error).reason == "METHOD_UNKNOWN"
        else:
            raise AssertionError("it answered")
    await running.stop(0)
