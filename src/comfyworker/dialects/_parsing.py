"""The parsing that every dialect shares: each takes every shape of request."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from comfyworker.dialects.request import OUR_WORDS, Words, parse_request
from comfyworker.jobs import JobRequest, Output


class SharedParsing:
    """Parses requests; dialects differ in what they say of wrong ones, and in how artifacts go out."""

    words: ClassVar[Words] = OUR_WORDS
    usual_output: ClassVar[Output] = Output()
    """How clients want their artifacts if they do not say."""

    def parse(self, body: object, *, new_id: Callable[[], str]) -> JobRequest:
        """Return the job that a request asks for.

        Args:
            body: The request as parsed JSON, of any shape.
            new_id: Gives an id for a request that brings none.

        Raises:
            InvalidRequest: with everything that is wrong with the request.
            InvalidWorkflow: the workflow is all that is wrong.
        """
        return parse_request(body, new_id=new_id, words=self.words, usual=self.usual_output)
