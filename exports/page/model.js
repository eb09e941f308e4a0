// The model that a page holds, and what it makes of a picture.
'use strict';

const SHOWN = 5;  // classes

// {names, network} of the page's texts; `about` is what web_page.py says of the model.
async function openModel(about, namesText, modelText) {
  const names = await inflate(bytesOf(namesText, about.names_bytes));
  const tensors = await unpack(bytesOf(modelText, about.model_bytes), convolutionShapes(about.rows));
  return {
    names: JSON.parse(new TextDecoder().decode(names)),
    network: makeNetwork(about.rows, tensors, about),
  };
}

// {small, answer}: the picture at the size that the crop is cut from, and {map, logits,
// probabilities, ranking}: the likeliest classes' numbers.
function look(model, preprocessing, picture) {
  const small = resize(picture, preprocessing);
  const answer = model.network(networkInput(small, preprocessing));
  answer.probabilities = softmax(answer.logits);
  answer.ranking = Array.from(answer.logits, (_, i) => i)
    .sort((a, b) => answer.logits[b] - answer.logits[a] || a - b).slice(0, SHOWN);
  return { small, answer };
}
