const place = document.getElementById("asyncapi");
fetch(place.dataset.document).then(response => response.json()).then(schema =>
  AsyncApiStandalone.render({schema, config: {expand: {messageExamples: true}}}, place));
