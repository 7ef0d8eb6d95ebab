// Made by scripts/generate-openapi from docs/openapi.json: edit that file and run the script.

/// The formal description of the client plane, as served at /api/openapi.json.
enum OpenAPI {
    static let document = Array(text.utf8)

    private static let text = ##"""
        {
          "openapi": "3.1.0",
          "info": {
            "title": "Rain",
            "version": "1",
            "description": "The client plane of a Rain server. Ids are dense and given by the client: a session's templates, tasks and objects are counted from 0, each kind apart.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
          },
          "servers": [{"url": "/"}],
          "security": [{"token": []}],
          "paths": {
            "/api/openapi.json": {
              "get": {
                "operationId": "openapi",
                "summary": "This description",
                "security": [],
                "responses": {
                  "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/status": {
              "get": {
                "operationId": "status",
                "summary": "The server, its workers and sessions",
                "parameters": [
                  {
                    "name": "transfers", "in": "query", "description": "Ask the workers, too, what they have moved.",
                    "schema": {"type": "boolean", "default": false}
                  }
                ],
                "responses": {
                  "200": {
                    "description": "Done.",
                    "content": {
                      "application/json": {
                        "schema": {
                          "type": "object",
                          "properties": {
                            "version": {"type": "string"},
                            "epoch": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                            "host": {"type": "string"},
                            "pid": {"type": "integer", "minimum": 0},
                            "control_port": {"type": "integer", "minimum": 1, "maximum": 65535, "description": "Where workers join."},
                            "uptime_s": {"type": "number"},
                            "workers": {"type": "array", "items": {"$ref": "#/components/schemas/Worker"}},
                            "sessions": {"type": "array", "items": {"$ref": "#/components/schemas/Session"}},
                            "transfers": {
                              "type": "object",
                              "description": "Bytes of objects that have passed through the server since its start.",
                              "properties": {
                                "uploaded_bytes": {"type": "integer", "minimum": 0},
                                "from_workers_bytes": {"type": "integer", "minimum": 0},
                                "to_workers_bytes": {"type": "integer", "minimum": 0},
                                "to_clients_bytes": {"type": "integer", "minimum": 0}
                              },
                              "required": ["uploaded_bytes", "from_workers_bytes", "to_workers_bytes", "to_clients_bytes"]
                            }
                          },
                          "required": ["version", "epoch", "host", "pid", "control_port", "uptime_s", "workers", "sessions", "transfers"]
                        }
                      }
                    }
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions": {
              "get": {
                "operationId": "listSessions",
                "summary": "All sessions",
                "responses": {
                  "200": {
                    "description": "Done.",
                    "content": {
                      "application/json": {
                        "schema": {
                          "type": "object",
                          "properties": {"sessions": {"type": "array", "items": {"$ref": "#/components/schemas/Session"}}},
                          "required": ["sessions"]
                        }
                      }
                    }
                  },
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              },
              "post": {
                "operationId": "openSession",
                "summary": "Open a session",
                "requestBody": {
                  "required": false,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SessionOptions"}, "example": {"name": "mine", "detached": true}}}
                },
                "responses": {
                  "201": {
                    "description": "It is open.",
                    "content": {
                      "application/json": {
                        "schema": {
                          "type": "object",
                          "properties": {
                            "session": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                            "resume": {"type": "string", "description": "Opens the lease."}
                          },
                          "required": ["session", "resume"]
                        }
                      }
                    }
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "500": {"$ref": "#/components/responses/Broken"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "get": {
                "operationId": "sessionStatus",
                "summary": "A session",
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Session"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              },
              "delete": {
                "operationId": "closeSession",
                "summary": "Close a session; answered when nothing of it runs any more",
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Empty"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/lease": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "get": {
                "operationId": "lease",
                "summary": "Hold the session's lease: a stream of lines, see the client plane's page",
                "parameters": [{"name": "resume", "in": "query", "required": true, "schema": {"type": "string"}}],
                "responses": {
                  "200": {"description": "Lines of JSON until the session ends.", "content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/submit": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "submit",
                "summary": "Submit templates, objects, subworkers and rows, all or nothing",
                "requestBody": {
                  "required": false,
                  "content": {
                    "application/x-ndjson": {
                      "schema": {"type": "string", "description": "One JSON value per line, see the client plane's page."},
                      "example": "{\"submit\": {\"first_template\": 0, \"first_task\": 0, \"first_object\": 0}}\n{\"object\": {\"data\": \"hello \"}}\n{\"object\": {\"data\": \"world\"}}\n{\"template\": {\"type\": \"builtin/concat\", \"outputs\": [{\"label\": \"out\", \"keep\": true}]}}\n[0, [0, 1], null]\n"
                    }
                  }
                },
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "500": {"$ref": "#/components/responses/Broken"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/wait": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "wait",
                "summary": "Wait until tasks have their outcome",
                "requestBody": {
                  "required": true,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/WaitRequest"}, "example": {"all": true, "timeout_ms": 1000}}}
                },
                "responses": {
                  "200": {
                    "description": "Done.",
                    "content": {
                      "application/json": {
                        "schema": {"type": "object", "properties": {"done": {"type": "boolean", "description": "false when the time was over."}}, "required": ["done"]}
                      }
                    }
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/results": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "results",
                "summary": "Wait for objects, then their bytes in bulk",
                "requestBody": {
                  "required": true,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ResultsRequest"}, "example": {"objects": [[0, 1]], "timeout_ms": 1000}}}
                },
                "responses": {
                  "200": {
                    "description": "In the order asked. Ask for application/x-rain-rows by Accept, or get JSON.",
                    "content": {
                      "application/json": {
                        "schema": {
                          "type": "object",
                          "properties": {"objects": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}}},
                          "required": ["objects"]
                        }
                      },
                      "application/x-rain-rows": {"schema": {}}
                    }
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/objects/{object}/content": {
              "parameters": [
                {"$ref": "#/components/parameters/Session"},
                {"$ref": "#/components/parameters/Object"},
                {
                  "name": "Range",
                  "in": "header",
                  "required": false,
                  "schema": {"type": "string"},
                  "description": "One range of bytes: bytes=a-b, bytes=a- or bytes=-n. Anything else is answered with the whole."
                },
                {"name": "If-Range", "in": "header", "required": false, "schema": {"type": "string"}}
              ],
              "get": {
                "operationId": "content",
                "summary": "An object's bytes, or a directory as a tar stream; waits for it",
                "responses": {
                  "200": {
                    "description": "The whole.",
                    "headers": {
                      "ETag": {"schema": {"type": "string"}},
                      "Accept-Ranges": {"schema": {"type": "string"}},
                      "Rain-Content-Type": {"description": "The object's content type as its task or client named it.", "schema": {"type": "string"}}
                    },
                    "content": {
                      "*/*": {"schema": {}},
                      "application/x-tar": {"schema": {}}
                    }
                  },
                  "206": {
                    "description": "A part.",
                    "headers": {
                      "ETag": {"schema": {"type": "string"}},
                      "Accept-Ranges": {"schema": {"type": "string"}},
                      "Rain-Content-Type": {"description": "The object's content type as its task or client named it.", "schema": {"type": "string"}},
                      "Content-Range": {"schema": {"type": "string"}}
                    },
                    "content": {"*/*": {"schema": {}}}
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "416": {"$ref": "#/components/responses/BadRange"},
                  "500": {"$ref": "#/components/responses/Broken"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              },
              "head": {
                "operationId": "contentHead",
                "summary": "Size, ETag and type of an object; waits for it",
                "responses": {
                  "200": {
                    "description": "It is there.",
                    "headers": {
                      "ETag": {"schema": {"type": "string"}},
                      "Accept-Ranges": {"schema": {"type": "string"}},
                      "Rain-Content-Type": {"description": "The object's content type as its task or client named it.", "schema": {"type": "string"}}
                    }
                  },
                  "206": {
                    "description": "The part is there.",
                    "headers": {
                      "ETag": {"schema": {"type": "string"}},
                      "Accept-Ranges": {"schema": {"type": "string"}},
                      "Rain-Content-Type": {"description": "The object's content type as its task or client named it.", "schema": {"type": "string"}}
                    }
                  },
                  "400": {"description": "The request is malformed."},
                  "401": {"description": "No token, or a wrong one."},
                  "404": {"description": "There is no such session, task or object."},
                  "409": {"description": "The session failed or is closed, the request doesn't fit its state, or the time to wait for objects was over."},
                  "416": {"description": "The range is outside of the object."},
                  "500": {"description": "The server's disk or the server itself failed."},
                  "503": {"description": "The journal can't be written, or a worker can't be reached."}
                }
              }
            },
            "/api/v1/sessions/{session}/info": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "info",
                "summary": "State and attributes of tasks and objects",
                "requestBody": {
                  "required": true,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InfoRequest"}, "example": {"tasks": [[0, 1]], "objects": [[0, 1]]}}}
                },
                "responses": {
                  "200": {
                    "description": "Done.",
                    "content": {
                      "application/json": {
                        "schema": {
                          "type": "object",
                          "properties": {
                            "tasks": {"type": "array", "items": {"$ref": "#/components/schemas/Task"}},
                            "objects": {"type": "array", "items": {"$ref": "#/components/schemas/Object"}}
                          },
                          "required": ["tasks", "objects"]
                        }
                      }
                    }
                  },
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/keep": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "keep",
                "summary": "Keep objects until told otherwise",
                "requestBody": {
                  "required": true,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ObjectSelection"}, "example": {"objects": [[0, 1]]}}}
                },
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Empty"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/unkeep": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "unkeep",
                "summary": "Let objects go",
                "requestBody": {
                  "required": true,
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ObjectSelection"}, "example": {"objects": [[0, 1]]}}}
                },
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Empty"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/sessions/{session}/cancel": {
              "parameters": [{"$ref": "#/components/parameters/Session"}],
              "post": {
                "operationId": "cancel",
                "summary": "Cancel tasks; answered when they have their outcomes",
                "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TaskSelection"}, "example": {"all": true}}}},
                "responses": {
                  "200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Empty"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "404": {"$ref": "#/components/responses/Unknown"},
                  "409": {"$ref": "#/components/responses/Conflict"},
                  "413": {"$ref": "#/components/responses/TooLarge"},
                  "503": {"$ref": "#/components/responses/Unavailable"}
                }
              }
            },
            "/api/v1/blobs/{hash}": {
              "parameters": [{"$ref": "#/components/parameters/Hash"}],
              "put": {
                "operationId": "putBlob",
                "summary": "Upload a blob; durable when answered",
                "requestBody": {"required": true, "content": {"application/octet-stream": {"schema": {}}}},
                "responses": {
                  "200": {"description": "It was there.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Blob"}}}},
                  "201": {"description": "It is there now.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Blob"}}}},
                  "400": {"$ref": "#/components/responses/Malformed"},
                  "401": {"$ref": "#/components/responses/Unauthorized"},
                  "500": {"$ref": "#/components/responses/Broken"},
                  "503": {"$ref": "#/components/responses/Unavailable"},
                  "507": {"$ref": "#/components/responses/DiskFull"}
                }
              },
              "head": {
                "operationId": "headBlob",
                "summary": "Whether a blob is there",
                "responses": {
                  "200": {"description": "It is there.", "headers": {"Content-Length": {"schema": {"type": "integer", "minimum": 0}}}},
                  "400": {"description": "The request is malformed."},
                  "401": {"description": "No token, or a wrong one."},
                  "404": {"description": "There is no such session, task or object."},
                  "503": {"description": "The journal can't be written, or a worker can't be reached."}
                }
              }
            }
          },
          "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "The token of the server's access.toml."}},
            "parameters": {
              "Session": {"name": "session", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0, "maximum": 4294967295}, "example": 1},
              "Object": {"name": "object", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0, "maximum": 4294967295}, "example": 0},
              "Hash": {
                "name": "hash",
                "in": "path",
                "required": true,
                "description": "SHA-256 of the bytes, hexadecimal.",
                "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
              }
            },
            "responses": {
              "Malformed": {"description": "The request is malformed.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}},
              "Unauthorized": {
                "description": "No token, or a wrong one.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}
              },
              "Unknown": {
                "description": "There is no such session, task or object.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
              },
              "NoMethod": {"description": "The path has no such method.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}},
              "Conflict": {
                "description": "The session failed or is closed, the request doesn't fit its state, or the time to wait for objects was over.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
              },
              "TooLarge": {"description": "The body is too large.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}},
              "BadRange": {
                "description": "The range is outside of the object.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                "headers": {"Content-Range": {"schema": {"type": "string"}}}
              },
              "Broken": {
                "description": "The server's disk or the server itself failed.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
              },
              "Unavailable": {
                "description": "The journal can't be written, or a worker can't be reached.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
              },
              "DiskFull": {"description": "The server's disk is full.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
            },
            "schemas": {
              "Error": {
                "type": "object",
                "properties": {
                  "error": {
                    "type": "object",
                    "properties": {
                      "code": {"type": "string", "description": "Stable, for programs."},
                      "message": {"type": "string", "description": "What is wrong, and what to do."},
                      "failure": {"$ref": "#/components/schemas/Failure"}
                    },
                    "required": ["code", "message"]
                  }
                },
                "required": ["error"]
              },
              "Failure": {
                "type": "object",
                "properties": {
                  "task": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "name": {"type": "string"},
                  "type": {"type": "string"},
                  "origin": {"type": "string", "description": "Where the client made the task."},
                  "cause": {
                    "type": "string",
                    "enum": ["user", "crash", "worker_lost", "out_of_memory", "timeout", "preempted", "setup", "dependency", "resource", "contract"]
                  },
                  "message": {"type": "string"},
                  "detail": {"type": "string", "description": "Traceback, stderr, or the tail of a log."},
                  "debug": {"type": "string"},
                  "exit_code": {"type": ["integer", "null"]},
                  "signal": {"type": ["integer", "null"]},
                  "host": {"type": "string"}
                },
                "required": ["task", "name", "type", "origin", "cause", "message", "detail", "debug", "exit_code", "signal", "host"]
              },
              "Range": {
                "type": "array",
                "description": "First index and count.",
                "items": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                "minItems": 2,
                "maxItems": 2
              },
              "Ranges": {"type": "array", "items": {"$ref": "#/components/schemas/Range"}},
              "SessionOptions": {
                "type": "object",
                "properties": {
                  "name": {"type": "string", "default": ""},
                  "on_error": {"type": "string", "enum": ["fail_session", "fail_descendants"], "default": "fail_session"},
                  "grace_ms": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 4294967295,
                    "default": 5000,
                    "description": "How long the session lives on after its lease broke."
                  },
                  "detached": {"type": "boolean", "default": false, "description": "Needs no lease."},
                  "subworkers": {
                    "type": "array",
                    "maxItems": 1000,
                    "items": {
                      "type": "object",
                      "properties": {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$", "not": {"const": "builtin"}, "description": "The part of a task type before the slash."},
                        "command": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[^\\u0000]+$"}, "description": "Program and arguments."},
                        "env": {
                          "type": "array",
                          "items": {"type": "string", "pattern": "^[^=\\u0000]+=[^\\u0000]*$"},
                          "description": "NAME=value, on top of the worker's own."
                        }
                      },
                      "additionalProperties": false,
                      "required": ["name", "command"]
                    }
                  }
                },
                "additionalProperties": false
              },
              "Session": {
                "type": "object",
                "properties": {
                  "session": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "name": {"type": "string"},
                  "tasks": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "objects": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "finished": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "failed": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "cancelled": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "running": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "state": {"type": "string", "enum": ["open", "failed", "closing"]},
                  "lease": {"type": "boolean"},
                  "detached": {"type": "boolean"},
                  "opened": {"type": "integer", "minimum": 0, "description": "In seconds since 1970."},
                  "hints": {
                    "type": "array", "items": {"type": "string"},
                    "description": "Why tasks wait that nothing but a person can help: no worker, none that is large enough, none that offers their subworker."
                  },
                  "failure": {"oneOf": [{"$ref": "#/components/schemas/Failure"}, {"type": "null"}]}
                },
                "required": ["session", "name", "tasks", "objects", "finished", "failed", "cancelled", "running", "state", "lease", "detached", "opened", "hints", "failure"]
              },
              "Worker": {
                "type": "object",
                "properties": {
                  "worker": {"type": "string"},
                  "host": {"type": "string"},
                  "pid": {"type": "integer", "minimum": 0},
                  "cpus": {"type": "integer", "minimum": 0},
                  "running": {"type": "integer", "minimum": 0},
                  "queued": {"type": "integer", "minimum": 0},
                  "objects": {"type": "integer", "minimum": 0},
                  "subworkers": {"type": "array", "items": {"type": "string"}, "description": "Those that it offers to every session."},
                  "store": {"type": "string"},
                  "endpoint": {"type": "string"},
                  "transfers": {
                    "description": "What the worker has moved since its start; null when it does not answer; only where it was asked for.",
                    "type": ["object", "null"],
                    "properties": {
                      "pulled_bytes": {"type": "integer", "minimum": 0},
                      "pulled_objects": {"type": "integer", "minimum": 0},
                      "pull_requests": {"type": "integer", "minimum": 0},
                      "failed_pulls": {"type": "integer", "minimum": 0},
                      "resumed_pulls": {"type": "integer", "minimum": 0},
                      "peers": {"type": "integer", "minimum": 0},
                      "served_bytes": {"type": "integer", "minimum": 0},
                      "served_requests": {"type": "integer", "minimum": 0}
                    }
                  }
                },
                "required": ["worker", "host", "pid", "cpus", "running", "queued", "objects", "subworkers", "store", "endpoint"]
              },
              "Progress": {
                "type": "object",
                "description": "How far a running task is, as it says itself.",
                "properties": {
                  "fraction": {"type": "number", "minimum": 0, "maximum": 1},
                  "text": {"type": "string", "description": "A line on what it does."}
                },
                "required": ["fraction", "text"]
              },
              "TaskState": {"type": "string", "enum": ["waiting", "ready", "assigned", "running", "finished", "failed", "cancelled"]},
              "Task": {
                "type": "object",
                "properties": {
                  "task": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "name": {"type": "string"},
                  "type": {"type": "string"},
                  "state": {"$ref": "#/components/schemas/TaskState"},
                  "worker": {"type": "string"},
                  "started": {"type": ["number", "null"], "description": "Seconds since 1970."},
                  "duration_s": {"type": ["number", "null"]},
                  "progress": {"oneOf": [{"$ref": "#/components/schemas/Progress"}, {"type": "null"}]},
                  "debug": {"type": "string", "description": "What the task wrote for debugging."},
                  "attributes": {"type": "object", "description": "The user's own attributes."},
                  "failure": {"oneOf": [{"$ref": "#/components/schemas/Failure"}, {"type": "null"}]}
                },
                "required": ["task", "name", "type", "state", "worker", "started", "duration_s", "progress", "debug", "attributes", "failure"]
              },
              "Object": {
                "type": "object",
                "properties": {
                  "object": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "label": {"type": "string"},
                  "state": {"type": "string", "enum": ["unfinished", "finished", "dropped"]},
                  "kept": {"type": "boolean"},
                  "directory": {"type": "boolean"},
                  "content_type": {"type": "string"},
                  "size": {"type": "integer", "minimum": 0, "description": "Bytes; of a directory: of its tar stream."},
                  "attributes": {"type": "object", "description": "The user's own attributes."}
                },
                "required": ["object", "label", "state", "kept", "directory", "content_type", "size", "attributes"]
              },
              "Receipt": {
                "type": "object",
                "properties": {
                  "first_template": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "first_task": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "first_object": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "tasks": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "objects": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "repeated": {"type": "boolean", "description": "The same submit had been taken before."}
                },
                "required": ["first_template", "first_task", "first_object", "tasks", "objects", "repeated"]
              },
              "Result": {
                "type": "object",
                "properties": {
                  "object": {"type": "integer", "minimum": 0, "maximum": 4294967295},
                  "status": {"type": "string", "enum": ["ok", "large", "dropped", "failed", "cancelled", "unavailable"]},
                  "data64": {"type": "string", "contentEncoding": "base64", "description": "With status ok."},
                  "content_type": {"type": "string"},
                  "size": {"type": "integer", "minimum": 0},
                  "directory": {"type": "boolean"},
                  "failure": {"$ref": "#/components/schemas/Failure"},
                  "message": {"type": "string", "description": "With status unavailable: why no holder gave the bytes."}
                },
                "required": ["object", "status"]
              },
              "TaskSelection": {
                "oneOf": [
                  {"type": "object", "properties": {"tasks": {"$ref": "#/components/schemas/Ranges"}}, "additionalProperties": false, "required": ["tasks"]},
                  {"type": "object", "properties": {"all": {"const": true}}, "additionalProperties": false, "required": ["all"]}
                ]
              },
              "WaitRequest": {
                "oneOf": [
                  {
                    "type": "object",
                    "properties": {"tasks": {"$ref": "#/components/schemas/Ranges"}, "timeout_ms": {"type": "integer", "minimum": 0, "maximum": 4294967295}},
                    "additionalProperties": false,
                    "required": ["tasks"]
                  },
                  {
                    "type": "object",
                    "properties": {"all": {"const": true}, "timeout_ms": {"type": "integer", "minimum": 0, "maximum": 4294967295}},
                    "additionalProperties": false,
                    "required": ["all"]
                  }
                ]
              },
              "ObjectSelection": {"type": "object", "properties": {"objects": {"$ref": "#/components/schemas/Ranges"}}, "additionalProperties": false, "required": ["objects"]},
              "ResultsRequest": {
                "type": "object",
                "properties": {"objects": {"$ref": "#/components/schemas/Ranges"}, "timeout_ms": {"type": "integer", "minimum": 0, "maximum": 4294967295}},
                "additionalProperties": false,
                "required": ["objects"]
              },
              "InfoRequest": {
                "type": "object",
                "properties": {
                  "tasks": {"$ref": "#/components/schemas/Ranges"},
                  "states": {
                    "type": "array",
                    "description": "Only tasks in one of these states; of all tasks when `tasks` is left out.",
                    "items": {"$ref": "#/components/schemas/TaskState"}
                  },
                  "consequences": {"type": "boolean", "default": true, "description": "false: without tasks that failed because what they need did."},
                  "limit": {
                    "type": "integer", "minimum": 1, "maximum": 1000000,
                    "description": "So many tasks at most, the first ones; for more, ask from the last one's number on."
                  },
                  "objects": {"$ref": "#/components/schemas/Ranges"}
                },
                "additionalProperties": false
              },
              "Blob": {
                "type": "object",
                "properties": {"blob": {"type": "string", "description": "SHA-256, hexadecimal."}, "size": {"type": "integer", "minimum": 0}},
                "required": ["blob", "size"]
              },
              "Empty": {"type": "object", "maxProperties": 0}
            }
          }
        }

        """##
}
