"""What every use of AMQP needs: short strings that fit, and errors that name their cure."""


def shortened(text: str) -> str:
    """The first 255 bytes, which is what a short string of AMQP can hold."""
    return text.encode(errors="backslashreplace")[:255].decode(errors="ignore")


def explain(error: BaseException, url_host: str) -> str:
    """One line that names the variable to look at and the cure."""
    text = str(error) or "no answer in time"
    if "CERTIFICATE" in text.upper():
        return (
            f"the certificate of RabbitMQ at {url_host} is not accepted: see TLS_CA_FILE, or "
            f"cafile in RABBITMQ_URL ({text})"
        )
    if "ACCESS_REFUSED" in text or "403" in text:
        return f"RabbitMQ refused the login: see RABBITMQ_USER and RABBITMQ_PASSWORD ({text})"
    # When a vhost is refused, aiormq says only that a close came where OpenOk was expected.
    if "OpenOk" in text or "vhost" in text.lower() or "NOT_ALLOWED" in text:
        return (
            f"RabbitMQ refuses the vhost of {url_host}: see RABBITMQ_VHOST, or create it "
            "(rabbitmqctl add_vhost) and let RABBITMQ_USER in (rabbitmqctl set_permissions)"
        )
    return f"RabbitMQ does not answer at {url_host}: see RABBITMQ_HOST and RABBITMQ_PORT ({text})"


def explain_queue(error: BaseException, queue: str) -> str:
    """One line that names the queue that RabbitMQ refuses, and the cure."""
    if "PRECONDITION_FAILED" in f"{error}":
        cure = f"others have declared it otherwise; empty it, then rabbitmqctl delete_queue {queue}"
    elif "ACCESS_REFUSED" in f"{error}":
        cure = "let RABBITMQ_USER configure, write and read it (rabbitmqctl set_permissions)"
    else:
        cure = "end whoever uses it alone"
    return f"RabbitMQ refuses the queue {queue}: {cure} ({error})"
