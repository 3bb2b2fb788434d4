"builtin.module"() ({
  "hetc.graph"() ({
  ^bb0(%arg0: tensor<?x?x64xf32>):
    %1 = "hetc.rms_norm"(%arg0) {eps = 1.0e-06 : f64, offset = 0.0 : f64, operand_segments = array<i32: 1, 0>, result_shapes = ["B,S,64"]} : (tensor<?x?x64xf32>) -> (tensor<?x?x64xf32>) loc("norm")
    "hetc.return"(%1) : (tensor<?x?x64xf32>) -> ()
  }) {sym_name = "layer", input_names = ["x"], input_shapes = ["B,S,64"], output_names = []} : () -> ()
  "hetc.graph"() ({
  ^bb0(%arg0: tensor<?x?x64xf32>, %arg1: tensor<?xi1>):
    %2 = "hetc.call"(%arg0) {callee = @layer, operand_segments = array<i32: 1>, result_shapes = ["B,S,64"]} : (tensor<?x?x64xf32>) -> (tensor<?x?x64xf32>) loc("layers.0")
    %3, %4 = "hetc.split"(%2) {axis = -1 : i64, sizes = [32 : i64, 32 : i64], result_shapes = ["B,S,32", "B,S,32"]} : (tensor<?x?x64xf32>) -> (tensor<?x?x32xf32>, tensor<?x?x32xf32>)
    %5 = "hetc.concat"(%4, %3) {axis = -1 : i64, operand_segments = array<i32: 2>, result_shapes = ["B,S,64"]} : (tensor<?x?x32xf32>, tensor<?x?x32xf32>) -> (tensor<?x?x64xf32>)
    %6 = "hetc.mul"(%5) {x = 0xFFF0000000000000 : f64, operand_segments = array<i32: 0, 1>, result_shapes = ["B,S,64"]} : (tensor<?x?x64xf32>) -> (tensor<?x?x64xf32>)
    %7 = "hetc.where"(%arg1) {x = 1.0e-06 : f64, y = 2 : i64, dtype = f8E4M3FN, operand_segments = array<i32: 1, 0, 0>, result_shapes = ["S"]} : (tensor<?xi1>) -> (tensor<?xf8E4M3FN>)
    %8 = "hetc.weight"() {name = "a \22name\22", type = tensor<2xui8>} : () -> (tensor<2xui8>)
    "hetc.return"(%6) : (tensor<?x?x64xf32>) -> ()
  }) {sym_name = "forward", input_names = ["x", "m"], input_shapes = ["B,S,64", "S"], output_names = ["y"]} : () -> ()
}) : () -> ()
