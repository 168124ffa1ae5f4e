"""The Confluent Schema Registry, through confluent-kafka's client: schemas by id, and ids of our own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from omnistream.avro import parse_avro_schema
from omnistream.errors import OmnistreamError, SchemaError, SinkError, SourceError

log = logging.getLogger(__name__)

NOT_FOUND = 404


class Registry:
    """One registry.

    Parameters
    ----------
    settings : mapping of str to str
        What ``SchemaRegistryClient`` takes: ``url``, ``basic.auth.user.info``, ``ssl.ca.location``, ...

    Raises
    ------
    OmnistreamError
        When the client is not installed, or takes a setting for a mistake.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise OmnistreamError(
                f"the schema registry needs confluent-kafka and its registry client ({error}): "
                "pip install 'omnistream[avro]'"
            ) from None
        self.url = settings.get("url", "")
        # Numbers are texts in a job, as they are to librdkafka; to this client they are numbers.
        given = {key: int(value) if value.isdigit() else value for key, value in settings.items()}
        # Schemas are asked for now and then: a connection for each time, and none that is left open.
        self._connect = partial(SchemaRegistryClient, given)
        try:
            with self._connect():
                pass
        except (TypeError, ValueError) as error:
            raise OmnistreamError(f"schema_registry: {error}") from None

    def types_of(self, schema_id: int) -> list[dict[str, Any]] | None:
        """Return the types of a writer schema; None when there is none of this id, or it is not Avro.

        Raises
        ------
        SourceError
            When the registry cannot be asked.
        """
        try:
            with self._connect() as client:
                schema = client.get_schema(schema_id)
                if (schema.schema_type or "AVRO") != "AVRO":
                    log.warning("schema %d of %s is %s, not Avro", schema_id, self.url, schema.schema_type)
                    return None
                return parse_avro_schema(schema.schema_str or "", _referenced(client, schema, set()))
        except SchemaError as error:
            log.warning("schema %d of %s: %s", schema_id, self.url, error)
            return None
        except Exception as error:  # the client passes on whatever its HTTP library raises
            if getattr(error, "http_status_code", 0) == NOT_FOUND:
                log.warning("schema %d of %s: there is none", schema_id, self.url)
                return None
            raise SourceError(f"schema {schema_id} cannot be had from {self.url}: {_said(error)}") from error

    def register(self, subject: str, schema: str) -> int:
        """Return the id of a schema, which is registered if it is new.

        Raises
        ------
        SinkError
            When the registry refuses it, as when it is not compatible with what the subject has, or cannot be
            asked.
        """
        from confluent_kafka.schema_registry import Schema

        try:
            with self._connect() as client:
                return int(client.register_schema(subject, Schema(schema, "AVRO")))
        except Exception as error:
            raise SinkError(
                f"{self.url}: the schema of {subject} cannot be registered: {_said(error)}"
            ) from error


def _referenced(client: Any, schema: Any, seen: set[tuple[str, int]]) -> Iterator[str]:
    """Yield the schemas that a schema refers to, each behind those that it refers to itself."""
    for reference in schema.references or ():
        place = (reference.subject, reference.version)
        if place not in seen:
            seen.add(place)
            other = client.get_version(*place).schema
            yield from _referenced(client, other, seen)
            yield other.schema_str or ""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
